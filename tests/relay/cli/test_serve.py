"""A relay as a process: how it starts, what it tells, how it stops, and a backup taken while everybody writes."""

import asyncio
import contextlib
import json
import os
import resource
import select
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from prometheus_client.parser import text_string_to_metric_families

from crdtmed.aggregates.prescription import Stop
from crdtmed.aggregates.stock_item import Receipt
from crdtmed.documents import log_of
from crdtmed.limits import MAX_CONNECTIONS
from crdtmed.verdict import Status
from crdtmed.wire import frames
from relay.operator.office import open_office
from relay.operator.serving import allow_files
from relay.settings import Settings
from tests.relay.cli.desk import ROOT, Desk, served, start, world_in
from tests.relay.probe import Ended, Probe
from tests.relay.service.stories import DRAFTS, write
from tests.relay.world import Tablet, World


def run(story: Callable[[], Awaitable[None]]) -> None:
    """Tells a story, within two minutes."""

    async def bounded() -> None:
        async with asyncio.timeout(120):
            await story()

    asyncio.run(bounded())


def today(folder: Path) -> World:
    """A world in a relay's folder, at the time that a relay's process has."""
    world = world_in(folder)
    world.now_ms = int(time.time() * 1000)
    return world


def test_a_relay_may_open_a_file_for_every_connection_that_it_takes() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1_024, before[1]))
        allow_files()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert hard == before[1]
        assert soft == hard or soft > MAX_CONNECTIONS
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


# ---- start and stop -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_says_goodbye_and_keeps_what_it_accepted(desk: Desk, number: signal.Signals) -> None:
    world = today(desk.folder)
    tablets = [world.tablet() for _ in range(3)]
    world.connection.close()
    with served(desk.folder) as relay:

        async def story() -> None:
            async with Probe(tablets[0], relay.port) as a, Probe(tablets[1], relay.port) as b:
                await b.subscribe(DRAFTS)
                refs = await write(a, "5", "6", client=21)
                await a.until(lambda: set(refs) <= a.verdicts.keys())
                stranger = Probe(tablets[2], relay.port)
                await stranger.dial()
                await asyncio.to_thread(relay.process.send_signal, number)
                for probe in (a, b, stranger):
                    with pytest.raises(Ended) as ended:
                        await probe.ended()
                    assert ended.value.code == "closing"
                    assert isinstance(probe.seen[-1], frames.Bye), "a word, and not just the end of the line"
                assert {verdict.status for verdict in a.verdicts.values()} == {Status.ACCEPTED}

        run(story)
        assert relay.ended() == 0
        assert [each["event"] for each in relay.log][-1] == "stopped"
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{relay.url}/healthz")
    assert desk.json("status")["statements"] == 2
    assert desk.json("verify")["sound"] is True


def test_what_was_on_its_way_is_answered_or_not_there(desk: Desk) -> None:
    """Told to stop among a flood of pushes: what was accepted is there, and everything is sound."""
    world = today(desk.folder)
    tablet = world.tablet()
    world.connection.close()
    accepted: set[str] = set()
    with served(desk.folder) as relay:

        async def story() -> None:
            async with Probe(tablet, relay.port) as probe:
                await write(probe, *map(str, range(1, 200)), client=21)
                await probe.until(lambda: len(probe.verdicts) > 20)
                relay.process.send_signal(signal.SIGTERM)
                with pytest.raises(Ended):
                    await probe.ended()
                accepted.update(ref for ref, each in probe.verdicts.items() if each.status is Status.ACCEPTED)

        run(story)
        assert relay.ended() == 0
    assert len(accepted) > 20
    assert accepted <= {each["ref"] for each in desk.json("audit")}
    assert desk.json("verify")["sound"] is True


def test_after_a_crash_it_starts_without_a_hand(desk: Desk) -> None:
    assert desk.run("init").status == 0
    with served(desk.folder) as relay:
        assert httpx.get(f"{relay.url}/readyz").status_code == 200
        assert relay.stop(signal.SIGKILL) == -signal.SIGKILL
    with served(desk.folder) as relay:
        assert httpx.get(f"{relay.url}/readyz").json() == {"status": "ready", "knowledge": None}
        assert relay.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_however_it_ends_none_of_its_processes_is_left(desk: Desk, number: signal.Signals) -> None:
    assert desk.run("init").status == 0
    with served(desk.folder, CRDTMED_RELAY_VERIFIERS="2") as relay, ExitStack() as held:
        pids = children(relay.process.pid)
        assert len(pids) == 2
        poll = select.poll()
        for pid in pids:
            ended = os.pidfd_open(pid)
            held.callback(os.close, ended)
            poll.register(ended, select.POLLIN)
        assert relay.stop(number) == (0 if number is signal.SIGTERM else -number)
        over: set[int] = set()
        while len(over) < len(pids):
            found = [ended for ended, _ in poll.poll(60_000)]
            assert found, "it waits for a relay that is gone"
            over.update(found)
            for each in found:
                poll.unregister(each)


@pytest.mark.parametrize(("setting", "count"), [("0", 0), ("1", 1)])
def test_a_setting_says_how_many_processes_check_signatures(desk: Desk, setting: str, count: int) -> None:
    assert desk.run("init").status == 0
    with served(desk.folder, CRDTMED_RELAY_VERIFIERS=setting) as relay:
        assert len(children(relay.process.pid)) == count
        assert metrics(relay.url)["crdtmed_signatures_total", "verifiers"] == 0


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


def failed(*argv: object, **environment: str) -> str:
    """The one line of a relay's process that could not start."""
    it = start(*argv, **environment)  # type: ignore[arg-type]  # the folder comes first
    assert it.stop() == 1
    assert it.port == 0
    [line] = it.lines
    return line


def test_a_busy_port_is_one_line(desk: Desk) -> None:
    assert desk.run("init").status == 0
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = str(held.getsockname()[1])
        line = failed(desk.folder, CRDTMED_RELAY_LISTEN_PORT=port)
    assert line.startswith(f"crdtmed-relay: listen_port: 127.0.0.1:{port} cannot be listened on (")
    assert line.endswith("stop what listens there, or choose another port")


def test_an_address_that_is_not_this_machines_is_one_line(desk: Desk) -> None:
    assert desk.run("init").status == 0
    plain = "behind a proxy that ends TLS"
    line = failed(desk.folder, CRDTMED_RELAY_LISTEN_HOST="203.0.113.7", CRDTMED_RELAY_PLAINTEXT=plain)
    assert line.startswith("crdtmed-relay: listen_port: 203.0.113.7:0 cannot be listened on (")


def test_one_folder_has_one_relay(desk: Desk, tmp_path: Path) -> None:
    assert desk.run("init").status == 0
    target = tmp_path / "b.sqlite"
    with served(desk.folder) as relay:
        assert failed(desk.folder).endswith("a relay runs on this folder; stop it first")
        assert desk.run("backup", target).status == 0
        assert desk.run("restore", target).line.endswith("a relay runs on this folder; stop it first")
        assert httpx.get(f"{relay.url}/healthz").json()["status"] == "ok"


def test_a_port_file_that_cannot_be_written_is_one_line(desk: Desk, tmp_path: Path) -> None:
    assert desk.run("init").status == 0
    ran = subprocess.run(
        [sys.executable, "-m", "relay.cli", "--folder", desk.folder, "serve", "--port-file", tmp_path / "no" / "port"],
        capture_output=True, text=True, cwd=ROOT, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 1
    assert [line for line in ran.stderr.splitlines() if not line.startswith("{")] == [
        f"crdtmed-relay: --port-file: {tmp_path}/no/port cannot be written: No such file or directory"
    ]


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of localhost that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "tls.crt", folder / "tls.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )  # fmt: skip
    return paths


def test_tls_without_a_proxy(desk: Desk, tmp_path: Path) -> None:
    crt, key = certificate(tmp_path)
    settings = tmp_path / "settings.toml"
    settings.write_text(f'tls_certificate = "{crt}"\ntls_key = "{key}"\n')
    assert desk.run("init").status == 0
    with served(desk.folder, "--settings", settings) as relay:
        assert f"wss://127.0.0.1:{relay.port}/sync" in relay.lines[-1]
        trust = ssl.create_default_context(cafile=crt)
        assert httpx.get(f"https://localhost:{relay.port}/healthz", verify=trust).json()["status"] == "ok"
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{relay.url}/healthz")
    key.write_text("no key")
    assert "tls_certificate, tls_key: cannot be used" in failed(desk.folder, "--settings", settings)


# ---- what it tells --------------------------------------------------------------------------------------------------


def metrics(url: str) -> dict[tuple[str, ...], float]:
    """What ``/metrics`` says, by name and, in the order of their names, the values of labels."""
    text = httpx.get(f"{url}/metrics").raise_for_status().text
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_count_what_happened(desk: Desk) -> None:
    world = today(desk.folder)
    one, gone = world.tablet(), world.tablet()
    world.connection.close()
    with served(desk.folder) as relay:
        before = metrics(relay.url)
        assert before["crdtmed_connections",] == 0
        assert before["crdtmed_devices", "online"] == 2

        async def story() -> None:
            async with Probe(one, relay.port) as probe, Probe(gone, relay.port) as other:
                refs = await write(probe, "5", "6", client=21)
                log = world.log("site/pharmacy")
                receipt = Receipt("S", "N1", "amox-500", "L1", "2099-01-01", 5, "{tablet}", world.now_ms)
                wrong = one.say(receipt, log_of("site/pharmacy"))
                await probe.send(frames.Push(log, one.into_log(log, 22, wrong)))
                stop = one.say(Stop("rx9", "no such"), "patient/p1")
                await probe.send(frames.Request(stop.encoded))
                for ref in (*refs, wrong.statement.ref, stop.statement.ref):
                    await probe.verdict(ref)
                now = await asyncio.to_thread(metrics, relay.url)
                assert now["crdtmed_connections",] == now["crdtmed_devices_connected",] == 2
                await other.raw(b"\xff")
                with pytest.raises(Ended):
                    await other.ended()
                await asyncio.to_thread(desk.json, "revoke", gone.id, "--reason", "lost")

        run(story)
        now = metrics(relay.url)
        assert now["crdtmed_admissions_total", "", "accepted"] == 2
        assert now["crdtmed_admissions_total", "unit_mismatch", "conflict"] == 1
        assert [
            value for key, value in now.items() if key[0] == "crdtmed_admissions_total" and key[2] == "refused"
        ] == [1]
        commits = now["crdtmed_commit_seconds_count",]
        assert 1 <= commits <= 4
        assert now["crdtmed_commit_seconds_bucket", "+Inf"] == commits == now["crdtmed_fan_out_seconds_count",]
        assert now["crdtmed_commit_seconds_sum",] > 0
        assert now["crdtmed_signatures_total", "writer"] == 4
        assert now["crdtmed_open_conflicts",] == 1
        assert now["crdtmed_open_quarantine",] == 0
        assert (now["crdtmed_devices", "online"], now["crdtmed_devices", "revoked"]) == (1, 1)
        assert now["crdtmed_revoked_not_wiped",] == 1
        assert now["crdtmed_device_lag_seconds", one.id] >= 0
        assert ("crdtmed_device_lag_seconds", gone.id) not in now
        assert sum(value for key, value in now.items() if key[0] == "crdtmed_closes_total") >= 1
        assert now["crdtmed_bytes_total", "in"] > 0
        assert now["crdtmed_queue_bytes",] == now["crdtmed_commits_failed_total",] == 0


def test_readiness_follows_the_database(desk: Desk) -> None:
    assert desk.run("init").status == 0
    with served(desk.folder) as relay:
        assert httpx.get(f"{relay.url}/readyz").status_code == 200
        with closing(sqlite3.connect(desk.folder / "relay.sqlite")) as connection:
            connection.execute("UPDATE schema_version SET version = 999")
            connection.commit()
        answer = httpx.get(f"{relay.url}/readyz")
        assert (answer.status_code, answer.json()["status"]) == (503, "no database")
        assert httpx.get(f"{relay.url}/healthz").status_code == 200


SECRET_WORDS = ("424242", "MUSTERFRAU", "sub rosa", "Pat p1", "MRN-p1", "5.25")


def test_logs_are_lines_of_ids_and_hold_no_clinical_value(desk: Desk) -> None:
    world = today(desk.folder)
    tablet = world.tablet()
    world.connection.close()
    refs: list[str] = []
    with served(desk.folder, CRDTMED_RELAY_LOG_LEVEL="debug") as relay:

        async def story() -> None:
            async with Probe(tablet, relay.port) as probe:
                refs.extend(await write(probe, "5.25", client=21))
                log = world.log("site/pharmacy")
                receipt = Receipt("MUSTERFRAU", "424242", "amox-500", "L1", "2099-01-01", 5, "{tablet}", world.now_ms)
                wrong = tablet.say(receipt, log_of("site/pharmacy"))
                await probe.send(frames.Push(log, tablet.into_log(log, 22, wrong)))
                stop = tablet.say(Stop("rx9", "sub rosa"), "patient/p1")
                await probe.send(frames.Request(stop.encoded))
                refs.extend((wrong.statement.ref, stop.statement.ref))
                for ref in refs:
                    await probe.verdict(ref)
                # An update cut short, with the name of a patient in it.
                await probe.send(frames.Push(DRAFTS, b"\x01\x01MUSTERFRAU 424242"))
                with pytest.raises(Ended):
                    await probe.ended()

        run(story)
        for data in (b"MUSTERFRAU 424242", b"\x93\x01MUSTERFRAU"):
            httpx.post(f"{relay.url}/enrol", content=data)
        with contextlib.suppress(httpx.HTTPError):
            httpx.get(f"{relay.url}/MUSTERFRAU")
        with socket.create_connection(("127.0.0.1", relay.port)) as rude:
            rude.sendall(b"MUSTERFRAU 424242\r\n\r\n")
            rude.recv(1_000)
        relay.stop()
    whole = "\n".join(relay.lines)
    assert [word for word in SECRET_WORDS if word in whole] == []
    judged = {each["statement"]: each for each in relay.log if each["event"] == "judged"}
    assert list(judged) == refs
    assert {name: judged[refs[1]][name] for name in ("device", "document", "verdict", "reason")} == {
        "device": tablet.id, "document": world.log("site/pharmacy"), "verdict": "conflict", "reason": "unit_mismatch"
    }  # fmt: skip
    assert [judged[ref]["verdict"] for ref in refs] == ["accepted", "conflict", "refused"]
    connected = [each for each in relay.log if each["event"] == "connected"]
    assert [each["device"] for each in connected] == [tablet.id]
    closed = [each for each in relay.log if each["event"] == "closed"]
    assert closed[0]["code"]
    assert closed[0]["device"] == tablet.id
    assert all(datetime.fromisoformat(each["at"]).tzinfo and each["level"] for each in relay.log)


# ---- backup under load ----------------------------------------------------------------------------------------------


def test_a_backup_under_load_restores_to_a_relay_that_verify_passes(desk: Desk, tmp_path: Path) -> None:
    """Three devices push without a pause while three backups are taken; each, restored beside, is sound; the relay
    restored from the first of them serves, and gets back what it lacks."""
    world = today(desk.folder)
    tablets = [world.tablet() for _ in range(3)]
    world.connection.close()
    backups = [tmp_path / f"{number}.sqlite" for number in range(3)]
    counts: list[int] = []
    with served(desk.folder) as relay:

        async def load(tablet: Tablet, client: int, over: asyncio.Event) -> int:
            sent = 0
            async with Probe(tablet, relay.port) as probe:
                await probe.subscribe(DRAFTS)
                while not over.is_set():
                    refs = await write(probe, *map(str, range(sent + 1, sent + 21)), client=client)
                    await probe.until(lambda refs=refs: set(refs) <= probe.verdicts.keys())  # type: ignore[misc]  # bound now
                    sent += len(refs)
            return sent

        async def story() -> None:
            over = asyncio.Event()
            loads = [asyncio.create_task(load(tablet, 31 + at, over)) for at, tablet in enumerate(tablets)]
            for path in backups:
                made = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "relay.cli", "--folder", desk.folder, "backup", path, cwd=ROOT,
                    stdout=subprocess.DEVNULL,
                )  # fmt: skip
                assert await made.wait() == 0
            over.set()
            counts.extend(await asyncio.gather(*loads))

        run(story)
        assert relay.stop() == 0
    assert all(counts)
    found = []
    for path in backups:
        beside = Desk(tmp_path / f"beside-{path.stem}", desk._capsys, desk._patch)
        beside.folder.mkdir()
        shutil.copy(desk.folder / "relay.keys", beside.folder)
        assert beside.json("restore", path)["kept"] is None
        verified = beside.json("verify")
        assert verified["sound"] is True, verified
        found.append(verified["statements"])
    assert 0 < found[0] < found[1] < found[2] <= sum(counts), "they were taken while statements came in"
    desk.json("restore", backups[0])
    epochs = _epochs(desk.folder)
    with served(desk.folder) as relay:

        async def back() -> None:
            async with Probe(tablets[0], relay.port) as probe:
                await probe.subscribe(DRAFTS)
                assert probe.replicas[DRAFTS].epoch == epochs[DRAFTS]
                [ref] = await write(probe, "1", client=77)
                assert (await probe.verdict(ref)).status is Status.ACCEPTED

        run(back)
    verified = desk.json("verify")
    assert (verified["sound"], verified["statements"]) == (True, found[0] + 1)


def _epochs(folder: Path) -> dict[str, str]:
    with open_office(Settings(folder=folder)) as office:
        rows = {name: office.record.document(name) for name in office.record.documents()}
        return {name: row.epoch for name, row in rows.items() if row is not None}


def test_commands_beside_a_running_relay_are_seen_by_it(desk: Desk) -> None:
    world = today(desk.folder)
    tablet = world.tablet()
    world.connection.close()
    with served(desk.folder) as relay:

        async def story() -> None:
            async with Probe(tablet, relay.port) as probe:
                await probe.subscribe("directory")
                await asyncio.to_thread(desk.json, "knowledge", "load", ROOT / "relay" / "knowledge" / "example.json")
                await probe.until(lambda: b"example-1" in b"".join(probe.values("directory")))
                await asyncio.to_thread(desk.json, "revoke", tablet.id, "--reason", "stolen")
                revoked = await probe.next_of(frames.Revoked)
                assert revoked.hand_over

        run(story)
        assert httpx.get(f"{relay.url}/readyz").json()["knowledge"] == "example-1"


def test_at_start_the_directory_names_what_answers(desk: Desk) -> None:
    """Where the file and the directory differ, after a crash between the two or a restoration, the file is right."""
    assert desk.run("init").status == 0
    example = json.loads((ROOT / "relay" / "knowledge" / "example.json").read_text())
    path = desk.folder.parent / "first.json"
    path.write_text(json.dumps(example))
    desk.json("knowledge", "load", path)
    (desk.folder / "knowledge.json").write_text(json.dumps(dict(example, snapshot="example-2")))
    shown: Any = desk.json("knowledge", "show")
    assert (shown["in_force"], shown["file"]) == ("example-1", "example-2")
    with served(desk.folder):
        pass
    assert desk.json("knowledge", "show")["in_force"] == "example-2"
