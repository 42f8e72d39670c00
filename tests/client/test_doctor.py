"""The doctor: what is right is ok, what is wrong is named with what to do; over real sockets."""

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve

from fedapt_client import doctor
from fedapt_client.doctor import Finding, examine
from fedapt_client.membership import rosters
from fedapt_client.settings import ClientSettings
from fedapt_crypto.certificates import to_der
from fedapt_crypto.pki import CertificateAuthority
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.learning.data.reading.listing import Listed
from fedapt_secure.learning.data.reading.manifest import write_manifest
from fedapt_secure.protocol.clocks import Times
from fedapt_secure.protocol.transport import server_context
from tests.support.issuing import issue
from tests.support.offices import HOST, Office, free_port, run

pytestmark = pytest.mark.integration


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


@pytest.fixture
def healthy(office: Office, tmp_path: Path) -> PartyFolder:
    """An institution with everything in place."""
    folder = office.enrol()
    rosters.approve(folder, office.roster())
    (folder.path / "policy.yaml").write_text("max_epsilon: 8\nminimum_records: 0\n")
    images = tmp_path / "images" / "one"
    images.mkdir(parents=True)
    (images / "1.png").touch()
    change(folder, "data", tmp_path / "images")
    return folder


def change(folder: PartyFolder, key: str, value: object) -> None:
    """Set one setting in client.yaml."""
    path = folder.path / "client.yaml"
    lines = [line for line in path.read_text().splitlines() if not line.startswith(f"{key}:")]
    path.write_text(
        "\n".join([*lines, f'{key}: "{value}"' if isinstance(value, (str, Path)) else f"{key}: {value}", ""])
    )


@pytest.fixture(autouse=True)
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading it takes seconds; `test_the_model` does."""
    monkeypatch.setattr(doctor, "_model", lambda *_: iter(()))


async def quiet(connection: ServerConnection) -> None:
    await connection.wait_closed()


@asynccontextmanager
async def rounds(office: Office) -> AsyncIterator[None]:
    async with serve(quiet, HOST, office.settings.port, ssl=server_context(office.folder)):
        yield


def examined(office: Office, folder: PartyFolder) -> dict[str, Finding]:
    """Run the doctor while the coordinator runs; by check."""

    async def story() -> list[Finding]:
        async with office.serving(), rounds(office):
            return await asyncio.to_thread(examine, folder, "tiny", None)

    return {finding.check: finding for finding in run(story())}


def wrong(found: dict[str, Finding]) -> dict[str, str]:
    return {name: f"{f.what}: {f.advice}" for name, f in found.items() if f.state == "wrong"}


def test_everything_is_in_place(office: Office, healthy: PartyFolder) -> None:
    found = examined(office, healthy)
    assert not wrong(found)
    assert {
        "python", "settings", "permissions", "keys", "certificate", "roster", "policy", "disk", "data",
        "minima",
        "enrolment port", "rounds port", "clock",
    } == found.keys()  # fmt: skip
    assert all(finding.state == "ok" for finding in found.values())


def test_equal_files_are_told(office: Office, healthy: PartyFolder, tmp_path: Path) -> None:
    for name in ("2.png", "3.png"):
        (tmp_path / "images" / "one" / name).touch()
    said = examined(office, healthy)["data"]
    assert said.state == "ok"
    told = "3 images of 1 classes; 2 files are equal to another one here: each picture counts once"
    assert said.what.endswith(told)


@pytest.mark.parametrize(
    ("images", "subjects", "rules", "said"),
    [
        (3, None, "minimum_records: 4", "at most 3 training images; the policy asks for 4"),
        (3, None, "minimum_records: 3\nminimum_persons: 9", None),
        (
            4,
            2,
            "minimum_records: 4\nminimum_persons: 3",
            "4 training images of 2 persons; the policy asks for",
        ),
        (4, 2, "minimum_records: 4\nminimum_persons: 2", None),
    ],
)
def test_fewer_than_the_policy_asks_for(
    tmp_path: Path, images: int, subjects: int | None, rules: str, said: str | None
) -> None:
    rows = []
    for number in range(images):
        path = tmp_path / f"{number}.png"
        path.write_bytes(bytes([number]))
        subject = None if subjects is None else f"somebody {number % subjects}"
        rows.append(Listed(path, "one", path.name, split="train", subject=subject))
    write_manifest(tmp_path / "data.csv", rows)
    (tmp_path / "policy.yaml").write_text(rules)
    settings = ClientSettings(name="clinic-1", port=1, data=tmp_path / "data.csv")
    (found,) = doctor._minima(PartyFolder(tmp_path), settings)
    assert (found.state, found.check) == ("ok" if said is None else "wrong", "minima")
    assert said is None or said in found.what
    assert (said is None) == (found.advice == "")


def test_nothing_is_in_place(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir(mode=0o700)
    found = {f.check: f for f in examine(PartyFolder(tmp_path / "empty"), "tiny", None)}
    assert {"settings", "keys", "certificate", "roster", "policy"} <= wrong(found).keys()
    assert "client enroll" in wrong(found)["keys"]


@pytest.mark.parametrize(
    ("check", "harm", "said"),
    [
        ("permissions", lambda f: f.path.chmod(0o755), "run 'chmod 700"),
        (
            "permissions",
            lambda f: f.identity_file.chmod(0o644),
            "identity.key can be read by others: run 'chmod 600",
        ),
        ("keys", lambda f: f.sealing_file.unlink(), "sealing.key: No such file"),
        ("keys", lambda f: f.private_key_file.write_bytes(b"rubbish"), "cannot load the TLS certificate"),
        ("certificate", lambda f: f.certificate_file.write_bytes(b"rubbish"), "tls.crt: not a certificate"),
        (
            "roster",
            lambda f: f.roster_file.unlink(),
            "none is approved: run 'fedapt-secure client roster show'",
        ),
        ("policy", lambda f: (f.path / "policy.yaml").unlink(), "there is no"),
        ("policy", lambda f: change(f, "policy", "rules.yaml"), "rules.yaml: write what"),
        ("policy", lambda f: (f.path / "policy.yaml").write_text("a: b: c"), "policy.yaml, line 1"),
        ("settings", lambda f: change(f, "colour", "red"), "unknown option 'colour'"),
        ("data", lambda f: change(f, "data", "/nowhere"), "cannot read the images of /nowhere"),
        ("rounds port", lambda f: change(f, "port", free_port()), "nothing listens there"),
        ("enrolment port", lambda f: change(f, "enrolment_port", free_port()), "nothing listens there"),
        ("enrolment port", lambda f: change(f, "host", "coordinator.invalid"), "coordinator.invalid"),
    ],
)
def test_what_is_wrong_is_named(office: Office, healthy: PartyFolder, check: str, harm, said: str) -> None:
    harm(healthy)
    assert said in wrong(examined(office, healthy))[check]


def test_a_manifest_that_names_a_missing_image(office: Office, healthy: PartyFolder, tmp_path: Path) -> None:
    write_manifest(tmp_path / "images.csv", [Listed(tmp_path / "gone.png", "one", "gone.png")])
    change(healthy, "data", tmp_path / "images.csv")
    assert "correct the manifest" in wrong(examined(office, healthy))["data"]


def test_certificates_before_and_after_their_time(tmp_path: Path) -> None:
    office = Office(tmp_path, days=30)
    folder, now = office.enrol(), office.clock.now
    states = {
        days: next(doctor._certificate(folder, now + timedelta(days=days))).state for days in (-1, 1, 25, 31)
    }
    assert states == {-1: "wrong", 1: "ok", 25: "note", 31: "wrong"}


@pytest.mark.parametrize(
    ("apart", "state"), [(0, "ok"), (-59, "ok"), (61, "note"), (-301, "wrong"), (10_000, "wrong")]
)
def test_clocks(apart: float, state: str) -> None:
    here = datetime(2026, 11, 29, 12, tzinfo=UTC)
    finding = doctor._clock(Times(here, here + timedelta(seconds=apart)))
    assert finding.state == state
    assert bool(finding.advice) == (state != "ok")


def test_a_clock_that_is_wrong_shows_over_the_connection(office: Office, healthy: PartyFolder) -> None:
    office.clock.pass_(seconds=-200)
    assert examined(office, healthy)["clock"].state == "note"


@pytest.mark.parametrize("speaks", ["websocket", "nothing but TLS"])
def test_a_middlebox_that_intercepts_tls_is_recognised(
    office: Office, healthy: PartyFolder, tmp_path: Path, speaks: str
) -> None:
    box = issue(
        CertificateAuthority.create("Inspecting Firewall"), tmp_path / "box", "box", server_addresses=(HOST,)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(box.certificate_file, box.private_key_file)

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def story() -> list[Finding]:
        async with contextlib.AsyncExitStack() as stack:
            for port in (office.settings.port, office.settings.enrolment_port):
                if speaks == "websocket":
                    await stack.enter_async_context(serve(quiet, HOST, port, ssl=context))
                else:
                    await stack.enter_async_context(
                        await asyncio.start_server(hang_up, HOST, port, ssl=context)
                    )
            return await asyncio.to_thread(examine, healthy, "tiny", None)

    found = {finding.check: finding for finding in run(story())}
    for port in ("enrolment port", "rounds port"):
        presented = hashlib.sha256(to_der(box.certificate_file.read_bytes())).hexdigest()
        assert f"not issued by this federation; its SHA-256 is {presented}" in wrong(found)[port]
        assert "Inspecting" not in wrong(found)[port], "a stranger chooses what stands in its certificate"
        assert "exempted from inspection" in wrong(found)[port]


@asynccontextmanager
async def proxy(port: int, seen: list[str], *, allow: bool = True) -> AsyncIterator[None]:
    """An HTTP proxy that knows CONNECT and nothing else."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        seen.append(head)
        if not allow:
            writer.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
            writer.close()
            return
        host, _, there = head.split()[1].rpartition(":")
        their_reader, their_writer = await asyncio.open_connection(host, int(there))
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        await asyncio.gather(pump(reader, their_writer), pump(their_reader, writer))

    server = await asyncio.start_server(connect, HOST, port)
    async with server:
        yield


@pytest.mark.parametrize("allow", [True, False])
def test_an_outbound_proxy(office: Office, healthy: PartyFolder, allow: bool) -> None:
    port, seen = free_port(), []
    change(healthy, "proxy", f"http://clinic:secret@{HOST}:{port}")

    async def story() -> list[Finding]:
        async with office.serving(), rounds(office), proxy(port, seen, allow=allow):
            return await asyncio.to_thread(examine, healthy, "tiny", None)

    found = {finding.check: finding for finding in run(story())}
    assert all(head.startswith(f"CONNECT {HOST}:") for head in seen)
    assert len(seen) == 4
    assert all("Proxy-Authorization: Basic" in head for head in seen)
    assert "secret" not in repr(found)
    if allow:
        assert not wrong(found)
    else:
        assert "allow CONNECT to this host and port" in wrong(found)["rounds port"]


def test_a_revoked_certificate_is_named(office: Office, healthy: PartyFolder) -> None:
    office.registrar.revoke("clinic-1", "")
    assert "revoked" in wrong(examined(office, healthy))["enrolment port"]


def test_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    found = list(doctor._model("tiny", None, "cpu", "auto"))
    assert [(finding.check, finding.state) for finding in found] == [("device", "ok"), ("model", "ok")]
    [refused] = [
        f
        for f in doctor._guarded("model", lambda: doctor._model("no-such-model", None, "cpu", "auto"))
        if f.state == "wrong"
    ]
    assert "there is no model no-such-model" in refused.what
