"""The snapshot file of rules: what is read, and what is told of a file that is not."""

import subprocess
import sys
import zipfile
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmed.limits import MAX_IMPORT_BYTES, MAX_SNAPSHOT_RULES
from relay.knowledge.snapshot import BadSnapshot, read_snapshot

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = (files("relay.knowledge") / "example.json").read_bytes()


def changed(path: str, value: Any) -> bytes:
    """The example with one place of it changed."""
    whole = msgspec.json.decode(EXAMPLE)
    at = whole
    *parts, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in parts:
        at = at[part]
    at[last] = value
    return msgspec.json.encode(whole)


def test_the_example_has_every_kind_of_rule() -> None:
    snapshot = read_snapshot(EXAMPLE)
    parts = (snapshot.interactions, snapshot.allergy_classes, snapshot.duplicate_classes, snapshot.dose_ceilings)
    assert all(len(part) >= 3 for part in parts)
    assert snapshot.rules == sum(map(len, parts))
    assert "warfarin" in snapshot.interactions_of
    assert "example" in snapshot.snapshot
    assert "not for patients" in snapshot.source


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("format", "crdtmed-knowledge/2", "$.format"),
        ("snapshot", "two words", "$.snapshot"),
        ("snapshot", "", "$.snapshot"),
        ("snapshot", "x" * 65, "$.snapshot"),
        ("surplus", 1, "surplus"),
        ("interactions", {}, "$.interactions"),
        ("interactions.0.severity", "grave", "$.interactions[0].severity"),
        ("interactions.0.between", ["warfarin"], "$.interactions[0].between"),
        ("interactions.0.between", ["a", "b", "c"], "$.interactions[0].between"),
        ("interactions.1.between", ["aspirin", "aspirin"], "interactions[1].between names 'aspirin' twice"),
        ("interactions.0.summary", "", "$.interactions[0].summary"),
        ("interactions.0.summary", "x" * 201, "$.interactions[0].summary"),
        ("interactions.0.surplus", 1, "surplus"),
        ("allergy_classes.0.ingredients", ["two words"], "$.allergy_classes[0].ingredients[0]"),
        ("dose_ceilings.0.per_day.value", 4, "$.dose_ceilings[0].per_day.value"),
        ("dose_ceilings.0.per_day.value", "4.0", "dose_ceilings[0].per_day.value"),
        ("dose_ceilings.0.per_day.value", "0", "dose_ceilings[0].per_day.value"),
        ("dose_ceilings.0.per_day.unit", "{tablet}", "dose_ceilings[0].per_day.unit"),
        ("dose_ceilings.0.per_day.unit", "MG", "dose_ceilings[0].per_day.unit"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(path: str, value: Any, words: str) -> None:
    with pytest.raises(BadSnapshot) as caught:
        read_snapshot(changed(path, value))
    assert any(words in problem for problem in caught.value.problems), caught.value.problems


def test_every_contradiction_is_told_at_once() -> None:
    whole = msgspec.json.decode(EXAMPLE)
    whole["interactions"][0]["between"] = ["a", "a"]
    whole["allergy_classes"][0] |= {"ingredients": [], "classes": []}
    whole["dose_ceilings"][0]["per_day"] = {"value": "-1", "unit": "mL"}
    with pytest.raises(BadSnapshot) as caught:
        read_snapshot(msgspec.json.encode(whole))
    assert len(caught.value.problems) == 4


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{", b"\xff\xfe", EXAMPLE[:-2], b"[" * 100_000])
def test_what_is_no_snapshot_at_all(data: bytes) -> None:
    with pytest.raises(BadSnapshot, match="not a snapshot of format crdtmed-knowledge/1"):
        read_snapshot(data)


def test_size_and_number_of_rules_are_bounded() -> None:
    with pytest.raises(BadSnapshot, match=f"at most {MAX_IMPORT_BYTES}"):
        read_snapshot(EXAMPLE + b" " * MAX_IMPORT_BYTES)
    rule = {"class": "c", "severity": "info", "summary": "s"}
    with pytest.raises(BadSnapshot, match=f"at most {MAX_SNAPSHOT_RULES}"):
        read_snapshot(changed("duplicate_classes", [rule] * (MAX_SNAPSHOT_RULES + 1)))


@given(st.integers(0, len(EXAMPLE) - 1), st.integers(0, 255))
def test_no_byte_of_a_file_makes_anything_else_happen(place: int, byte: int) -> None:
    data = bytearray(EXAMPLE)
    data[place] = byte
    with suppress(BadSnapshot):
        assert read_snapshot(bytes(data)).rules


def test_the_example_is_in_the_wheel(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as held:
        assert held.read("relay/knowledge/example.json") == EXAMPLE
