"""What fuzzing begins with: one good input of each kind, made here, and the crashes of earlier days."""

import json
from pathlib import Path
from typing import Final

from msgspec import Raw, msgpack

from crdtmed import keys, statement
from crdtmed.codec import encode
from crdtmed.compression import compress
from crdtmed.contract import Kind
from crdtmed.statement import Statement
from crdtmed.updates import ItemId, write_array_update, write_map_update
from crdtmed.verdict import Status, Verdict, encode_verdict
from crdtmed.wire import frames
from tests.fuzz import stores

CORPUS: Final = Path(__file__).with_name("corpus")
_ITEM: Final = (
    b"code,display,form,strength,counting_unit,ingredients,classes,packs\n"
    b"amox,Amoxicillin,capsule,500 mg,{capsule},a,b,09506000134352:21\n"
)
_PATIENT: Final = (
    b"id,identifiers,name,birth_date,allergies,care_sites\np1,urn:mrn|1,Maria,1950-03-01,none known,ward\n"
)
_STOCK: Final = b"site,item,lot,expiry,quantity,unit\npharm,amox,A1,2099-12-31,21,{capsule}\n"


def _statement() -> bytes:
    content = Raw(msgpack.encode({"prescription": "p", "reason": "rash"}))
    body = Statement(1, Kind.STOP, "a" * 16, "patient/p1", "b" * 8, 1, "ana/aaaaaaaa", 1 << 20, (), None, content)
    return statement.sign(body, keys.SoftwareSigner.from_scalar(5)).encoded


def seeds(name: str) -> list[bytes]:
    """Good inputs of a target, and what once crashed it."""
    said = _statement()
    array = write_array_update(9, 3, ItemId(9, 2), [said, b"another"])
    first = write_array_update(9, 0, None, [said, b"another"])
    mapped = write_map_update(9, 0, [("p/dose/b/a", said), ("p/route/b/c", b"x" * 90)])
    verdict = encode_verdict(Verdict(f"{'b' * 8}.{'a' * 16}", Status.ACCEPTED, 1, "patient/p1", "e", 2))
    made: dict[str, list[bytes]] = {
        "store_file": stores.seeds_of("store_file"),
        "store_rows": stores.seeds_of("store_rows"),
        "device_update_map": [mapped],
        "device_update_array": [array, first],
        "relay_update_map": [mapped],
        "relay_update_array": [first, array],
        "state_vector": [b"\x00", b"\x02\x09\x05\x80\x01\x07"],
        "statement": [said],
        "content": [said[-30:], msgpack.encode({"prescription": "p", "group": "dose", "value": None})],
        "verdict": [verdict],
        "compressed": [small for data in (mapped, first, said * 9) if (small := compress(data)) is not None],
        "frame_from_device": [
            encode(frames.Push("patient/p1/drafts", mapped)),
            frames.encode_frame(frames.HandOver((said, said))),
            frames.encode_frame(frames.Hello(1, "b" * 8, b"\x01" * 16)),
            frames.encode_frame(frames.Push("patient/p1/drafts", mapped)),
            frames.encode_frame(frames.Subscribe((frames.Want("patient/p1", "", 0),))),
        ],
        "frame_from_relay": [
            encode(frames.Changes((frames.Run("patient/p1", "e", 1, (mapped,)),))),
            frames.encode_frame(frames.Verdicts(1, (verdict, verdict))),
            frames.encode_frame(frames.Bases((frames.BaseState("patient/p1", "e", 1, mapped),), said, 0)),
            frames.encode_frame(frames.Changes((frames.Run("patient/p1", "e", 1, (mapped,)),))),
            frames.encode_frame(frames.Verdicts(1, (b"v",))),
        ],
        "gs1": [b"\x1d0109506000134352172512311021A1\x1d21777", b"(01)09506000134352(17)251231(10)A1"],
        "formulary": [_ITEM],
        "patients": [_PATIENT],
        "stock": [_STOCK],
        "knowledge": [json.dumps({"format": "crdtmed-knowledge/1", "snapshot": "s", "source": "x"}).encode()],
    }
    kept = sorted((CORPUS / name).glob("*")) if (CORPUS / name).is_dir() else []
    return [*made.get(name, [b"\x93\x01\x02\x03"]), *(path.read_bytes() for path in kept)]
