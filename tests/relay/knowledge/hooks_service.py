"""A CDS Hooks service in a process of its own, well-behaved or bad in every way: ``python hooks_service.py``.

The first part of a path says how it behaves: below ``/good`` it does everything right.  It prints its port, and ends
when its standard input does.  ``GET /asked`` gives the bodies that it was posted, by behaviour.
"""

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PREFETCH = {
    "patient": "Patient/{{context.patientId}}",
    "allergies": "AllergyIntolerance?patient={{context.patientId}}&clinical-status=active",
    "orders": "MedicationRequest?subject=Patient/{{context.patientId}}&status=active",
}
SERVICE = {"hook": "order-sign", "id": "checks", "title": "Checks", "description": "d", "prefetch": PREFETCH}
OTHER = {"hook": "patient-view", "id": "greets", "description": "d"}
CARD = {
    "uuid": "4e0a3a1e-3f7c-4cb6-9b4f-5d3b4c3f0d11",
    "summary": "bleeding",
    "indicator": "critical",
    "source": {"label": "a service of the tests", "url": "https://example.org"},
    "detail": "together they impair clotting",
    "overrideReasons": [{"code": "a", "system": "urn:x", "display": "benefit outweighs risk"}, {"code": "b"}],
    "suggestions": [{"label": "x"}],
    "links": [],
}


def services(mode: str) -> Any:
    """What discovery says."""
    found: dict[str, Any] = {
        "no-services": {"services": []},
        "other-hook": {"services": [OTHER]},
        "discovery-is-a-list": [SERVICE],
        "no-id": {"services": [{"hook": "order-sign", "description": "d"}]},
        "id-climbs": {"services": [{**SERVICE, "id": "../../admin"}]},
        "null-prefetch": {"services": [{**SERVICE, "prefetch": None}]},
        "wants-observations": {
            "services": [{**SERVICE, "prefetch": {"labs": "Observation?patient={{context.patientId}}"}}]
        },
        "wants-past-orders": {
            "services": [
                {**SERVICE, "prefetch": {"past": "MedicationRequest?patient={{context.patientId}}&status=completed"}}
            ]
        },
        "wants-another-patient": {"services": [{**SERVICE, "prefetch": {"p": "Patient/42"}}]},
        "two": {"services": [SERVICE, OTHER, {**SERVICE, "id": "also", "prefetch": {}}]},
    }
    return found.get(mode, {"services": [OTHER, SERVICE]})


def answer(mode: str) -> Any:
    """What the hook says."""
    found: dict[str, Any] = {
        "no-cards": {"cards": []},
        "cards-missing": {},
        "cards-null": {"cards": None},
        "cards-is-a-text": {"cards": "none"},
        "unknown-indicator": {"cards": [{**CARD, "indicator": "hard-stop"}]},
        "no-indicator": {"cards": [{name: part for name, part in CARD.items() if name != "indicator"}]},
        "no-source": {"cards": [{name: part for name, part in CARD.items() if name != "source"}]},
        "blank-summary": {"cards": [{**CARD, "summary": ""}]},
        "summary-is-a-number": {"cards": [{**CARD, "summary": 7}]},
        "one-of-two-is-bad": {"cards": [CARD, {"summary": "x"}]},
        "too-many-cards": {"cards": [{**CARD, "summary": f"card {n}"} for n in range(51)]},
        "two-services-too-many": {"cards": [{**CARD, "summary": f"card {n}"} for n in range(50)]},
        "same-summary": {"cards": [CARD, {**CARD, "detail": "and this is another matter"}]},
        "other-uuid": {"cards": [{**CARD, "uuid": "another"}]},
        "sparse": {"cards": [{"summary": "s", "indicator": "info", "source": {"label": "l"}, "detail": None,
                              "overrideReasons": None}]},
        "long-texts": {"cards": [{**CARD, "summary": "s" * 999, "detail": "d\\x07\n\x07" * 2_000}]},
        "kinds": {"cards": [{**CARD, "summary": kind, "indicator": kind} for kind in ("info", "warning", "critical")]},
    }  # fmt: skip
    return found.get(mode, {"cards": [CARD]})


class Handler(BaseHTTPRequestHandler):
    """One request."""

    asked: dict[str, list[Any]] = {}  # noqa: RUF012 - shared by all on purpose: it is what the service was asked

    def do_GET(self) -> None:
        if self.path == "/asked":
            self._give(json.dumps(self.asked).encode())
            return
        mode, _, rest = self.path[1:].partition("/")
        assert rest == "cds-services", self.path
        if mode.startswith("discovery-") and mode != "discovery-is-a-list":
            self._behave(mode.removeprefix("discovery-"))
        else:
            self._give(json.dumps(services(mode)).encode())

    def do_POST(self) -> None:
        mode, _, rest = self.path[1:].partition("/")
        body = self.rfile.read(int(self.headers["content-length"]))
        self.asked.setdefault(mode, []).append({"path": rest, "body": body.decode(), "headers": dict(self.headers)})
        self._behave(mode)

    def _behave(self, mode: str) -> None:
        behaviour = getattr(self, "_" + mode.replace("-", "_"), None)
        if behaviour is not None:
            behaviour()
        else:
            self._give(json.dumps(answer(mode)).encode())

    def _give(self, data: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"content_length": str(len(data)), "content_type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    # ---- bad in their own ways -------------------------------------------------------------------------------

    def _html(self) -> None:
        self._give(b"<html>it works</html>")

    def _empty(self) -> None:
        self._give(b"")

    def _half_json(self) -> None:
        self._give(b'{"cards": [')

    def _latin_1(self) -> None:
        self._give(json.dumps({"cards": [{**CARD, "summary": "é"}]}, ensure_ascii=False).encode("latin-1"))

    def _lone_surrogate(self) -> None:
        self._give(json.dumps({"cards": [{**CARD, "summary": "x\ud800"}]}).encode())

    def _deep(self) -> None:
        self._give(b'{"cards": [], "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}")

    def _number_that_never_ends(self) -> None:
        self._give(b'{"cards": [], "x": ' + b"9" * 200_000 + b', "cards": 1' + b"}")

    def _huge(self) -> None:
        self._give(b" " * 300_000)

    def _endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(b" " * 65_536)
        except OSError:
            pass  # the relay had enough

    def _gzip_bomb(self) -> None:
        import gzip

        self._give(gzip.compress(b" " * 200_000_000, 1), content_encoding="gzip")

    def _status_500(self) -> None:
        self._give(b'{"cards": []}', 500)

    def _status_412(self) -> None:
        self._give(b"{}", 412)

    def _status_201(self) -> None:
        self._give(b'{"cards": []}', 201)

    def _redirect(self) -> None:
        self._give(b"", 307, location="/no-cards/cds-services/checks")

    def _redirect_nowhere(self) -> None:
        self._give(b"", 302, location="http://[")

    def _silent(self) -> None:
        self.rfile.read(1)  # says nothing until the relay hangs up

    def _silent_after_headers(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "100")
        self.end_headers()
        self.wfile.write(b'{"cards"')
        self.rfile.read(1)

    def _hangs_up(self) -> None:
        self.close_connection = True

    def _hangs_up_half_way(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "100")
        self.end_headers()
        self.wfile.write(b'{"cards": []}')

    def _no_http(self) -> None:
        self.wfile.write(b"\x16\x03\x01 what?\r\n\r\n")

    def _endless_headers(self) -> None:
        try:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            while True:
                self.wfile.write(b"x: " + b"y" * 60_000 + b"\r\n")
        except OSError:
            pass

    def log_message(self, *args: object) -> None:
        """Says nothing."""


def main() -> None:
    """Serves until standard input ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
