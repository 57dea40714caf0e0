"""The relay's address: encrypted and with its certificate checked, or to this very machine."""

from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from crdtmed.limits import MAX_URL_CHARS

PLAINTEXT_WORDS: Final = "send everything unencrypted"
"""What somebody must say, in these words, to have plain ``ws`` to another machine."""


class BadAddress(ValueError):
    """An address is none, or not a safe one; the message says what to write instead."""


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def check_url(url: str, insecure_plaintext: str | None = None) -> str:
    """The relay's websocket address in its one form; raises `BadAddress`.

    ``wss`` anywhere, its certificate checked; ``ws`` only to loopback, or with `PLAINTEXT_WORDS` said.  User names and
    passwords in an address would end up in logs and process lists, so they are refused.
    """
    if len(url) > MAX_URL_CHARS:
        raise BadAddress(f"an address has at most {MAX_URL_CHARS} characters")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise BadAddress(f"this is no address ({error}): write wss://host or wss://host:port") from None
    if parts.scheme not in ("wss", "ws") or not host:
        raise BadAddress("write the relay's address as wss://host or wss://host:port")
    if parts.username is not None or parts.password is not None:
        raise BadAddress("an address holds no user and no password")
    if parts.query or parts.fragment:
        raise BadAddress("an address ends with its path")
    if parts.scheme == "ws" and not is_loopback(host) and insecure_plaintext != PLAINTEXT_WORDS:
        raise BadAddress(
            f"ws to {host} would go unencrypted: write wss, or set insecure_plaintext to {PLAINTEXT_WORDS!r}"
        )
    shown = f"[{host}]" if ":" in host else host
    return urlunsplit((parts.scheme, shown if port is None else f"{shown}:{port}", parts.path.rstrip("/"), "", ""))


def http_url(url: str, path: str) -> str:
    """The HTTP address of ``path`` at the relay whose websocket address is ``url`` (as `check_url` gave it)."""
    parts = urlsplit(url)
    scheme = "https" if parts.scheme == "wss" else "http"
    return urlunsplit((scheme, parts.netloc, parts.path + path, "", ""))
