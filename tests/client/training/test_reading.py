"""An institution's own way of reading images: people out of DICOM headers, and how much may be unused."""

import numpy as np
import pytest

from fedapt_client.books.fingerprints import KEY_FILE, Fingerprinter
from fedapt_client.rehearsal import Rehearsing
from fedapt_client.session.requirements import Requirements
from fedapt_client.training.learner import Learner, people_of
from fedapt_secure.config.policy import MAX_UNUSED_RULE
from fedapt_secure.learning.clip.backbone import load_backbone
from fedapt_secure.learning.data.reading.medical.people import PatientKey
from fedapt_secure.protocol.reasons import Reason
from tests.client.training.test_copies import Party
from tests.learning.data.reading.medical.made import made
from tests.protocol.federation import Federation


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("tiny", None)


@pytest.fixture
def data(tmp_path):
    """Thirty people with two images each, one of each class; three files of nobody."""
    rng = np.random.default_rng(0)
    for label in ("zero", "one"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(30):
            content = made(rng.integers(0, 4096, (16, 16), np.uint16), PatientID=f"patient {number}")
            (tmp_path / "images" / label / f"{number}.dcm").write_bytes(content)
    for number in range(3):
        content = made(rng.integers(0, 4096, (16, 16), np.uint16), PatientID="")
        (tmp_path / "images" / "zero" / f"nobody-{number}").write_bytes(content)
    return tmp_path / "images"


def test_privacy_is_per_person_under_the_ledger_s_key(tmp_path, data, backbone):
    party = Party(tmp_path / "own", data, backbone, subjects="dicom")
    configuration = party.offered(1)
    share = party.books.share(configuration.session)
    learner = Learner(
        party.settings, party.folder, configuration, share, patient_key=party.books.ledger.patient_key
    )
    assert learner.privacy_plan.unit == "person"
    key = PatientKey(Fingerprinter((party.folder / KEY_FILE).read_bytes()).patient_key())
    assert set(learner.subjects) <= {key.subject(f"patient {number}") for number in range(30)}
    assert learner.usage.unused == (("no PatientID", 3),)
    assert learner.usage.warning.startswith("3 of 63 files are not used")
    with pytest.raises(ValueError, match="no key"):
        people_of(party.settings, None)


def test_too_many_files_of_no_use_are_a_refusal(tmp_path, data, backbone, monkeypatch):
    monkeypatch.setattr(Requirements, "check", lambda *_: None)  # of a roster that this party has approved
    for number in range(20):
        (data / "zero" / f"{number}.dcm").write_bytes(b"broken")
    party = Party(tmp_path / "own", data, backbone, subjects="dicom")
    roster = Federation(3).roster
    found = Rehearsing(party.settings, party.folder, roster, party.books).rehearse(party.offered(1))
    assert found.reason is Reason.DATA_UNREADABLE
    assert found.sentence.startswith("23 of 63 files are not used: 20 ")
    assert f"more than 20% ({MAX_UNUSED_RULE})" in found.sentence
    assert len(found.unused) == 23
