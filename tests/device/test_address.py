"""The relay's address: encrypted, or to this machine, or in so many words."""

import pytest

from crdtmed.device.address import PLAINTEXT_WORDS, BadAddress, check_url, http_url, is_loopback


@pytest.mark.parametrize(
    ("url", "checked"),
    [
        ("wss://relay.example", "wss://relay.example"),
        ("wss://relay.example/", "wss://relay.example"),
        ("wss://relay.example:8443/meds/", "wss://relay.example:8443/meds"),
        ("WSS://Relay.Example", "wss://relay.example"),
        ("ws://127.0.0.1:80", "ws://127.0.0.1:80"),
        ("ws://127.9.9.9", "ws://127.9.9.9"),
        ("ws://localhost:1", "ws://localhost:1"),
        ("ws://[::1]:8000", "ws://[::1]:8000"),
        ("wss://[2001:db8::1]", "wss://[2001:db8::1]"),
    ],
)
def test_good_addresses(url: str, checked: str) -> None:
    assert check_url(url) == checked


@pytest.mark.parametrize(
    "url",
    [
        *("", "relay.example", "http://relay.example", "https://relay.example", "wss://", "wss:///x", "ftp://x"),
        *("ws://relay.example", "ws://10.0.0.1", "ws://localhost.example", "ws://127.0.0.1.example", "ws://0.0.0.0"),
        *("ws://[::2]", "ws://[::ffff:10.0.0.1]", "wss://user@relay.example", "wss://u:p@relay.example"),
        *("wss://relay.example?token=1", "wss://relay.example#x", "wss://relay.example:99999", "wss://[::1"),
        "wss://" + "a" * 600,
    ],
)
def test_bad_addresses(url: str) -> None:
    with pytest.raises(BadAddress) as caught:
        check_url(url)
    assert "u:p" not in str(caught.value)


@pytest.mark.parametrize("words", [None, "", "yes", "true", "1", PLAINTEXT_WORDS.upper()])
def test_plain_text_to_another_machine_needs_the_very_words(words: str | None) -> None:
    with pytest.raises(BadAddress, match="unencrypted"):
        check_url("ws://relay.example", words)
    assert check_url("ws://relay.example", PLAINTEXT_WORDS) == "ws://relay.example"


def test_enrolment_goes_the_same_way() -> None:
    assert http_url("wss://relay.example:8443/meds", "/enrol") == "https://relay.example:8443/meds/enrol"
    assert http_url("ws://[::1]:8000", "/enrol") == "http://[::1]:8000/enrol"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.255.0.1", "::1"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)
