"""Copies of a picture at an institution: one unit for the sampler and the ledger, whatever their files are.

An attacker who may put a picture into an institution's folder would put it there many times: as k units it
counted k times, and ε said for one unit held for none of it.
"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from fedapt_client.books.books import Books
from fedapt_client.books.fingerprints import KEY_FILE
from fedapt_client.settings import SETTINGS_FILE, read_settings
from fedapt_client.training.learner import Learner
from fedapt_crypto.errors import PolicyRefused
from fedapt_crypto.keystream import Keystream
from fedapt_secure.learning.batches.sampling import poisson_batch
from fedapt_secure.learning.clip.backbone import load_backbone
from fedapt_secure.learning.clip.context_words import initial_context
from fedapt_secure.learning.privacy.accounting import epsilon_of
from fedapt_secure.learning.privacy.mechanism import MECHANISM_NAME
from fedapt_secure.privacy.unit import IMAGE, PERSON
from fedapt_secure.protocol.session import SessionConfiguration
from tests.protocol.federation import Federation

PICTURES = 80
POLICY = (
    "max_epsilon: 4\nsession_epsilon: 2\nsession_delta: 0.004\nmax_delta: 0.008\ncomposition: sum\n"
    "minimum_records: 20\n"
)


@pytest.fixture(scope="module")
def backbone():
    return load_backbone()


def write_pictures(folder: Path) -> Path:
    for number in range(PICTURES):
        path = folder / ("zero" if number % 2 else "one") / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (9, 9, 3), np.uint8)
        Image.fromarray(pixels).resize((24, 20), Image.Resampling.BICUBIC).save(path)
    return folder


def put_copies(folder: Path) -> None:
    """Put the first pictures there four times each: as they are, with a note, and in other formats."""
    note = PngImagePlugin.PngInfo()
    note.add_text("Comment", "another file")
    for path in sorted(folder.glob("*/*.png"))[:10]:
        image = Image.open(path)
        path.with_name(f"a{path.name}").write_bytes(path.read_bytes())
        image.save(path.with_name(f"b{path.name}"), pnginfo=note, compress_level=1)
        image.save(path.with_suffix(".bmp"))


def save_anew(folder: Path) -> None:
    """Save every picture in another format; nothing of the old files is left."""
    for path in list(folder.glob("*/*.png")):
        Image.open(path).save(path.with_suffix(".tif"))
        path.unlink()


class Party:
    """An institution's folder in one federation."""

    def __init__(self, folder: Path, data: Path, backbone, **settings: object) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        lines = {"name": "clinic-1", "port": 1, "data": data, "device": "cpu"} | settings
        (folder / SETTINGS_FILE).write_text("".join(f"{name}: {value}\n" for name, value in lines.items()))
        (folder / "policy.yaml").write_text(POLICY)
        self.settings = read_settings(folder)
        self.books = Books(folder, self.settings, epsilon_of, MECHANISM_NAME)
        self._plan = {
            "class_names": ("zero", "one"),
            "weight_hash": backbone.weight_hash,
            "model_identity": backbone.identity,
            "text_width": 64,
            "feature_size": 64,
            "context_tokens": 4,
            "rounds": 2,
            "initial_context": initial_context(backbone, "a photo of a"),
        }

    def offered(self, number: int) -> SessionConfiguration:
        configuration = Federation(3, **self._plan).configuration
        return configuration.model_copy(update={"session": number.to_bytes(16, "big")})

    def prepared(self, number: int) -> Learner:
        configuration = self.offered(number)
        return Learner(self.settings, self.folder, configuration, self.books.share(configuration.session))

    def begin(self, number: int) -> dict:
        """Accept a session and reserve its first step; return what the log is told."""
        learner, configuration = self.prepared(number), self.offered(number)
        body = self.books.accept(
            configuration, learner.privacy_plan, learner.declared_records, learner.images, learner.subjects
        )
        self.books.reserve(configuration.session, 1, 1)
        return body["privacy"]


def test_the_sampler_draws_a_picture_once_however_often_it_is_there(tmp_path, backbone) -> None:
    data = write_pictures(tmp_path / "images")
    alone = Party(tmp_path / "alone", data, backbone).prepared(1)
    put_copies(data)
    many = Party(tmp_path / "many", data, backbone).prepared(1)
    assert len(list(data.glob("*/*"))) == PICTURES + 30
    assert many.duplicates.merged == 30
    assert sum(many.split) == sum(alone.split) == PICTURES
    units = many._training_data(1).units(private=True)
    assert (units.kind, len(units)) == (IMAGE, len(many.images))
    pixels = [image.pixels for image in many.images]
    assert len(set(pixels)) == len(pixels), "no two units are one picture"
    drawn = poisson_batch(Keystream(bytes(32)), len(units), 1.0)
    assert len(units.batch(drawn).records) == len(pixels), "of all units each picture comes once"


def test_copies_of_a_persons_picture_are_not_several_of_their_images(tmp_path, backbone) -> None:
    data = write_pictures(tmp_path / "images")
    put_copies(data)
    rows = [
        f"{path.relative_to(tmp_path)},{path.parent.name},p{path.stem.lstrip('ab')}"
        for path in sorted(data.glob("*/*"))
    ]
    (tmp_path / "all.csv").write_text("\n".join(["path,label,subject", *rows]) + "\n")
    learner = Party(tmp_path / "party", tmp_path / "all.csv", backbone).prepared(1)
    units = learner._training_data(1).units(private=True)
    assert units.kind == PERSON
    assert len(units) == len(learner.images) == len(set(learner.subjects))


def test_saved_anew_the_images_carry_what_they_have_spent(tmp_path, backbone) -> None:
    data = write_pictures(tmp_path / "images")
    party = Party(tmp_path / "party", data, backbone)
    first = party.begin(1)
    save_anew(data)
    second = party.begin(2)
    assert second["dataset"] == first["dataset"]
    assert second["spent_before"]["sessions"] == 1
    assert second["spent_before"]["epsilon"] == pytest.approx(first["epsilon_planned"])
    put_copies(data)
    with pytest.raises(PolicyRefused, match="2 sessions on these images"):
        party.begin(3)


class TestTwoFederations:
    """One institution, one folder of images, a party folder for each federation."""

    def test_one_ledger_for_both_counts_what_both_have_spent(self, tmp_path, backbone) -> None:
        data = write_pictures(tmp_path / "images")
        shared = tmp_path / "ledger" / "ledger.sqlite"
        shared.parent.mkdir(mode=0o700)
        retina = Party(tmp_path / "retina", data, backbone, ledger=shared)
        skin = Party(tmp_path / "skin", data, backbone, ledger=shared, name="clinic-2")
        first, second = retina.begin(1), skin.begin(2)
        assert (first["spent_before"]["sessions"], second["spent_before"]["sessions"]) == (0, 1)
        assert second["dataset"] == first["dataset"]
        for party in (retina, skin):
            with pytest.raises(PolicyRefused, match="2 sessions on these images"):
                party.begin(3)
        again = Books(retina.folder, retina.settings, epsilon_of, MECHANISM_NAME)
        assert len(again.ledger.sessions) == 2, "a log that shows one of them does not contradict it"
        assert not (retina.folder / "ledger.sqlite").exists()

    def test_the_first_ones_ledger_can_become_that_of_both(self, tmp_path, backbone) -> None:
        data = write_pictures(tmp_path / "images")
        first = Party(tmp_path / "retina", data, backbone).begin(1)
        shared = tmp_path / "ledger"
        shared.mkdir(mode=0o700)
        for path in [*(tmp_path / "retina").glob("ledger.sqlite*"), tmp_path / "retina" / KEY_FILE]:
            path.rename(shared / path.name)
        skin = Party(tmp_path / "skin", data, backbone, ledger=shared / "ledger.sqlite")
        second = skin.begin(2)
        assert second["dataset"] == first["dataset"]
        assert second["spent_before"]["sessions"] == 1

    def test_a_ledger_each_knows_nothing_of_the_other(self, tmp_path, backbone) -> None:
        """Why the documents say to share one."""
        data = write_pictures(tmp_path / "images")
        for name in ("retina", "skin"):
            assert Party(tmp_path / name, data, backbone).begin(1)["spent_before"]["sessions"] == 0
