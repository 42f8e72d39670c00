"""A federation on DICOM folders, per person; and nothing of the files' headers is anywhere afterwards."""

import base64
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.connection import Connection

from fedapt_client.books.fingerprints import KEY_FILE, Fingerprinter
from fedapt_secure.cli.app import run as run_command
from fedapt_secure.config.reading import ReadingOptions
from fedapt_secure.learning.data.reading.medical.people import PatientKey
from fedapt_secure.simulate.setup import federation
from tests.learning.data.reading.medical.made import pydicom, shipped, to_bytes

pytestmark = [pytest.mark.integration, pytest.mark.slow]

MARKER = "Zyx9Qmarker"
UID_MARKER = "1.2.826.0.1.3680043.8.498.99887766554433"
DATE_MARKER, TIME_MARKER = "19031207", "132947.135791"
VALUES = {
    **dict.fromkeys(("PN", "LO", "SH", "LT", "ST", "UT", "UC", "UR"), MARKER),
    **{"DA": DATE_MARKER, "TM": TIME_MARKER, "DT": DATE_MARKER + TIME_MARKER},
}
DOMAINS = ("clinic-a", "clinic-b", "clinic-c")
PERSONS, IMAGES = 8, 2
TEMPLATES = {"ct": "CT_small.dcm", "mr": "MR_small.dcm"}


def marked(template: str) -> Any:
    """Return a file with a marker in every header field that takes a text, a date or a time."""
    dataset = pydicom.dcmread(io.BytesIO(shipped(template)))
    for tag, (kind, count, _, _, keyword) in pydicom.datadict.DicomDictionary.items():
        if kind in VALUES and keyword and tag >> 16 > 2 and count in {"1", "1-n"}:
            dataset.add_new(tag, kind, VALUES[kind])
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
        setattr(dataset, keyword, UID_MARKER)
    dataset.file_meta.MediaStorageSOPInstanceUID = UID_MARKER
    dataset.file_meta.ImplementationVersionName = MARKER
    return dataset


def patient(domain: str, number: int) -> str:
    return f"{MARKER}-{domain}-{number}"


def write_clinics(root: Path) -> Path:
    """Write ``root/clinic/class/file``: some files without a suffix, as archives give them."""
    rng = np.random.default_rng(0)
    for label, template in TEMPLATES.items():
        dataset = marked(template)
        values = dataset.pixel_array
        for domain in DOMAINS:
            (root / domain / label).mkdir(parents=True)
            for number in range(PERSONS * IMAGES):
                noise = rng.integers(0, 40, values.shape)
                changed = np.rot90(values, number % 4) + noise
                dataset.Rows, dataset.Columns = changed.shape
                dataset.PixelData = changed.astype(values.dtype).tobytes()
                # Every person has images of both classes.
                dataset.PatientID = patient(domain, number // IMAGES)
                suffix = ".dcm" if number % 2 else ""
                (root / domain / label / f"IM{number:04d}{suffix}").write_bytes(to_bytes(dataset))
    for domain in DOMAINS:
        (root / domain / "notes.txt").write_text("no image")
        (root / domain / ".DS_Store").write_bytes(b"\0")
    return root


def forms(text: str) -> list[bytes]:
    """Return a text as it could stand in a file: raw, in UTF-16, as hexadecimal digits, in base64."""
    raw = [text.encode(), text.encode("utf-16-le"), text.encode("utf-16-be")]
    found = [*raw]
    for one in raw:
        found += [one.hex().encode(), one.hex().upper().encode()]
        for shift in range(3):  # base64 of three places within a longer text; without what its ends change
            found.append(base64.b64encode(b"\0" * shift + one)[4 * bool(shift) : -4])
    return found


def test_the_forms_are_found() -> None:
    content = b"xy" + MARKER.encode() + b"z"
    for where in (content, content.hex().encode(), base64.b64encode(content), base64.b64encode(content[1:])):
        assert any(form in where for form in forms(MARKER))


@pytest.fixture
def frames(monkeypatch) -> list[bytes]:
    """Record every message that anybody sends."""
    sent: list[bytes] = []
    send = Connection.send

    async def recording(self, message, *rest, **how):
        sent.append(message if isinstance(message, bytes) else bytes(message, "utf-8"))
        return await send(self, message, *rest, **how)

    monkeypatch.setattr(Connection, "send", recording)
    return sent


def test_per_person_and_without_a_word_of_the_headers(
    simulate, tmp_path, monkeypatch, frames, capfd, caplog
) -> None:
    root = write_clinics(tmp_path / "hospital")
    make = federation.client_settings

    def of_its_own(run, institution, *rest):
        """Let each institution read its own folder and take its people from there, as client.yaml says."""
        domain = run.dataset.domains[institution.domain_index]
        own = {"data": root / domain, "subjects": "dicom", "reading": ReadingOptions(window="1000,2000")}
        return make(run, institution, *rest).model_copy(update=own)

    monkeypatch.setattr(federation, "client_settings", of_its_own)
    with caplog.at_level("DEBUG"):
        run = simulate(
            *("--dataset", "folder", "--data-root", str(root), "--rounds", "2", "--local-steps", "2"),
            *("--dp-epsilon", "8", "--dp-delta", "0.005", "--secure-aggregation", "masking"),
            alone=True,
        )
    assert run.status == 0, capfd.readouterr().err
    for name in ("clinic-1", "clinic-2", "clinic-3"):
        lines = [json.loads(line) for line in (run.folder / "logs" / f"{name}.jsonl").open()]
        (accepted,) = [one["body"] for one in lines if one["type"] == "session_accepted"]
        assert accepted["privacy"]["unit"] == "person"
        assert accepted["privacy"]["declared_records"] <= PERSONS
    assert run_command(["audit", str(run.folder / "logs"), "--json"]) == 0
    out = capfd.readouterr()
    assert json.loads(out.out[out.out.index("{\n") :])["verdict"] == "VERIFIED"

    # A prediction and an evaluation on the same files.
    bundle = str(run.folder / "model.safetensors")
    assert run_command(["predict", bundle, str(root / "clinic-a"), "--csv", "--window", "1000,2000"]) == 0
    predicted = capfd.readouterr()
    assert predicted.out.count("\n") == 1 + 2 * PERSONS * IMAGES
    assert "1 of 33 files are not used: 1 not an image's suffix" in predicted.err
    evaluation = ["evaluate", bundle, "--data", str(root), "--split", "all", "--json"]
    assert run_command([*evaluation, "--out", str(tmp_path / "figures")]) == 0
    evaluated = capfd.readouterr()
    assert json.loads(evaluated.out)["images"] == 6 * PERSONS * IMAGES

    # Taken elsewhere: each form is compared with ours on all of them as it is written, or is not written.
    exported = []
    for form in ("onnx", "open-clip"):
        wanted = ["export", bundle, str(tmp_path / form), "--to", form, "--images", str(root), "--json"]
        assert run_command([*wanted, "--log", str(run.folder / "logs"), "--window", "1000,2000"]) == 0
        exported.append(capfd.readouterr())
        assert json.loads(exported[-1].out)["checked"]["given"] == 6 * PERSONS * IMAGES

    written = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_relative_to(root)]
    run_files = [path for path in run.folder.rglob("*") if path.is_file()]
    kinds = {path.suffix for path in run_files}
    assert {".sqlite", ".jsonl", ".safetensors", ".marks"} <= kinds, "ledgers, logs, bundles, caches"
    assert len(frames) > 50, "the traffic"
    shown = [
        one
        for said in (out, predicted, evaluated, *exported)
        for one in (said.out.encode(), said.err.encode())
    ]
    places = [
        *((str(path), path.read_bytes()) for path in {*written, *run_files}),
        *((f"message {number}", frame) for number, frame in enumerate(frames)),
        *((f"output {number}", text) for number, text in enumerate((*shown, caplog.text.encode()))),
    ]
    source = (root / "clinic-a" / "ct" / "IM0000").read_bytes()
    assert all(text.encode() in source for text in (MARKER, UID_MARKER, DATE_MARKER, TIME_MARKER))
    never = [form for text in (MARKER, UID_MARKER, DATE_MARKER, TIME_MARKER) for form in forms(text)]
    for index, domain in enumerate(DOMAINS):
        party = run.folder / "parties" / f"clinic-{index + 1}"
        people = PatientKey(Fingerprinter((party / KEY_FILE).read_bytes()).patient_key())
        for number in range(PERSONS):
            said = patient(domain, number)
            never += forms(people.subject(said))  # not even what stands for a person at home
            plain = hashlib.sha256(said.encode()).digest()
            never += [plain, plain.hex().encode(), base64.b64encode(plain)]
    for where, content in places:
        found = [form for form in never if form in content]
        assert not found, f"{where}: {found[0]!r}"
