"""Bytes that are known to hang, kill or bloat pycrdt 0.14.13: none of them comes past a reader."""

import json
import os
import tracemalloc
from pathlib import Path

import pytest

from crdtmed.updates import Malformed, Root, read_device_update, read_relay_update

SHARED = Path(os.environ.get("CRDTMED_SHARED") or Path(__file__).parents[2].parent / "shared")
COLLECTION = SHARED / "crashers.json"

# Made by hand, one for each way in which pycrdt trusts its input.
KNOWN = {
    "an astral character in an Array, whose length never adds up: reading it does not return": (
        "010103000401016105f09f98807800"
    ),
    "room for eight million structs in nine bytes": "018080800401000000",
    "room for four billion structs": "01ffffffff0f010000",
    "room for four billion clients": "ffffffff0f00",
    "a GC of four billion clocks": "0101010000ffffffff0f00",
    "deleted content of four billion clocks in an Array": "0101010001010161ffffffff0f00",
    "deleted content of four billion clocks in a Map": "010101002101016d016bffffffff0f00",
    "four billion values in an Array": "0101010008010161ffffffff0f00",
    "four billion values in a Map": "010101002801016d016bffffffff0f00",
    "a buffer of four gigabytes": "010101000801016101" + "74ffffffff0f00",
    "an array of four billion in a value": "010101000801016101" + "75ffffffff0f00",
    "a map of four billion in a value": "010101000801016101" + "76ffffffff0f00",
    "arrays in arrays, a thousand deep": "010101000801016101" + "7501" * 1000 + "7e00",
    "a clock at the end of 32 bits": "010101ffffffff0f08010161017400" + "00",
    "a clock that no signed integer holds": "0101018080808008" + "08010161017400" + "00",
    "clocks that run over": "0102010000feffffff0f0008" + "00",
    "a skip": "010201000a01" + "08010161017400" + "00",
    "a parent by id that does not exist": "01010100080005070174" + "0000",
    "an origin that does not exist": "01010100880507" + "017400" + "00",
    "an origin in itself": "01010100880100" + "017400" + "00",
    "a right origin that does not exist": "01010100480507" + "017400" + "00",
    "two clients that wait for each other": "0201020088010001740001010088020001740000",
    "deletes of what is yet to come": "0001010100ffffffff0f",
    "deletes that run over": "00010101ffffffff0fffffffff0f",
    "a nested type": "0101010007010161" + "0000",
    "a weak link": "0101010007010161" + "07000100" + "00",
    "a move": "010101000b010161" + "000100" + "00",
    "a subdocument": "0101010009010161" + "01617600" + "00",
    "a format": "0101010006010161" + "01620131" + "00",
    "JSON that is none": "0101010002010161" + "017b" + "00",
    "text in a Map": "0101010024010" + "16d016b0161" + "00",
}


def refused(data: bytes, known: dict[int, int] | None) -> None:
    for root in Root:
        with pytest.raises(Malformed):
            read_device_update(data, root, known)
        with pytest.raises(Malformed):
            read_relay_update(data, root, known)


@pytest.mark.parametrize("how", KNOWN)
def test_known_ways_are_closed(how: str) -> None:
    data = bytes.fromhex(KNOWN[how])
    tracemalloc.start()
    try:
        refused(data, {})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 65_536


@pytest.mark.skipif(not COLLECTION.is_file(), reason="the collection of crashers is not beside this checkout")
def test_the_whole_collection_is_refused() -> None:
    collection = json.loads(COLLECTION.read_text())
    assert len(collection["cases"]) == 79
    updates = [update for case in collection["cases"] for update in case["updates"]]
    for update in [collection["base_hex"], *updates]:
        refused(bytes.fromhex(update), {})
        # Nor do they need to know the document for it.
        refused(bytes.fromhex(update), None)
