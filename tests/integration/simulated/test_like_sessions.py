"""Images as institutions have them: `simulate --dataset folder` and a session give the same answer.

Each case is a folder ``domain/class/image``. It is dealt and simulated; and one domain of it is the folder of
a real institution on a stage, in a session whose plan names the same classes and domains.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fedapt_client.training import learner
from fedapt_crypto.errors import InvalidInput
from fedapt_secure.config.settings import build
from fedapt_secure.learning.bundle import read_bundle
from fedapt_secure.protocol.plan import SessionPlan
from fedapt_secure.protocol.reasons import Reason
from tests.learning.data.trees import write_classes, write_domains
from tests.protocol.federation import make_plan
from tests.protocol.sessions.stage import Stage

pytestmark = pytest.mark.integration

DOMAINS = ("a", "b", "c")
PETS = ("cat", "dog")
OPTIONS = ("--rounds", "1", "--local-steps", "1", "--context-tokens", "2", "--dp-delta", "0.001")
LONG = " ".join("abcdefghij"[number % 10] for number in range(90))
MANY = tuple(f"thing {number:03d}" for number in range(500))


@dataclass(frozen=True)
class Case:
    """What somebody has.

    Attributes:
        write: Writes it below a folder.
        whose: Of which domain an institution's part is looked at.
        domains: Those that there are.
        clients: How many institutions share a domain between them: then the one that is looked at has what
            was dealt to it.
    """

    write: Callable[[Path], object]
    whose: str = "b"
    domains: tuple[str, ...] = DOMAINS
    clients: int | None = None


def pets(root: Path) -> None:
    write_domains(root, DOMAINS, PETS, 12)


def a_missing_class(root: Path) -> None:
    pets(root)
    shutil.rmtree(root / "b" / "dog")


def an_empty_class(root: Path) -> None:
    a_missing_class(root)
    (root / "b" / "dog").mkdir()


def a_class_of_one_image(root: Path) -> None:
    pets(root)
    for domain in DOMAINS:
        write_classes(root / domain, ["owl"], 1, ord(domain))


def one_domain(root: Path) -> None:
    write_domains(root, ("a",), PETS, 40)


def many_classes(root: Path) -> None:
    write_classes(root / "a", MANY, 3)


def one_class(root: Path) -> None:
    write_domains(root, DOMAINS, PETS[:1], 12)


def a_long_name(root: Path) -> None:
    pets(root)
    write_classes(root / "b", [LONG], 2)


def an_unprintable_name(root: Path) -> None:
    pets(root)
    write_classes(root / "b", ["tabby\tcat"], 2)


TRAINED = {
    "a missing class": Case(a_missing_class),
    "an empty class": Case(an_empty_class),
    "a class of one image": Case(a_class_of_one_image),
    "one domain": Case(one_domain, "a", ("a",), 3),
    "five hundred classes": Case(many_classes, "a", ("a",), 3),
}
REFUSED = {
    "one class": (one_class, "there is one class only, 'cat': two at least are needed"),
    "a name that no screen shows": (
        an_unprintable_name,
        "the class 'tabby\\tcat' has a character that",
    ),
}


@dataclass(frozen=True)
class Answer:
    """What became of one institution's images.

    Attributes:
        declared: N̂. held_out: How many images of which class were held out.
        class_names, domains: What the finished model knows.
    """

    declared: int
    held_out: Counter[str]
    class_names: tuple[str, ...]
    domains: tuple[str, ...]


def answer(log: Path, party: Path) -> Answer:
    lines = [json.loads(line) for line in log.read_bytes().splitlines()]
    (accepted,) = [line["body"] for line in lines if line["type"] == "session_accepted"]
    models = party / "models"
    bundle = read_bundle(next(models.glob("*.safetensors")))
    scores = json.loads(next(models.glob("*.evaluation.json")).read_text())
    held_out: Counter[str] = Counter()
    for label, _, count in scores["confusion"]:
        held_out[bundle.class_names[label]] += count
    assert held_out.total() == scores["test_records"]
    return Answer(accepted["privacy"]["declared_records"], held_out, bundle.class_names, bundle.domains)


def classes_of(root: Path) -> tuple[str, ...]:
    return tuple(sorted({path.parent.name for path in root.glob("*/*/*")}))


def staged(tmp_path: Path, data: Path, plan: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> Stage:
    made = tmp_path / "made-up"
    write_classes(made, PETS)
    stage = Stage(tmp_path / "stage", made, monkeypatch)
    stage.settings |= {"data": data, "dp_delta": 0.0005}
    stage.plan |= plan
    stage.company = True
    return stage


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=pytest.mark.slow if "hundred" in one else ()) for one in TRAINED]
)
def test_the_same_comes_of_the_same_images(
    simulate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    case, root = TRAINED[name], tmp_path / "images"
    case.write(root)
    clients = () if case.clients is None else ("--clients", str(case.clients))
    run = simulate("--dataset", "folder", "--data-root", str(root), *OPTIONS, *clients)
    assert run.status == 0
    clinic = f"clinic-{case.domains.index(case.whose) + 1}"
    party = run.folder / "parties" / clinic
    simulated = answer(run.folder / "logs" / f"{clinic}.jsonl", party)

    data = root / case.whose if case.clients is None else party / "data" / "images.csv"
    plan = {"class_names": classes_of(root), "domains": case.domains}
    stage = staged(tmp_path, data, plan, monkeypatch)
    error, _ = stage.play()
    assert error is None
    assert answer(stage.folder / "log.jsonl", stage.folder) == simulated
    assert simulated.class_names == classes_of(root)
    assert simulated.domains == case.domains


@pytest.mark.parametrize("name", REFUSED)
def test_classes_that_no_plan_may_have_are_refused_in_the_same_words(
    simulate: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    write, sentence = REFUSED[name]
    write(root := tmp_path / "images")
    run = simulate("--dataset", "folder", "--data-root", str(root), *OPTIONS)
    assert run.status == 2
    assert not run.folder.exists()
    assert sentence in " ".join(capsys.readouterr().err.split())
    written = make_plan().model_dump(mode="json") | {"class_names": list(classes_of(root))}
    with pytest.raises(InvalidInput) as caught:
        build(SessionPlan, written, source="session.yaml")
    assert sentence in str(caught.value)


@pytest.mark.parametrize("method", ["fedapt", "linear-probe"])
def test_a_name_of_90_tokens_is_refused_when_the_plan_is_read(
    simulate: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    method: str,
) -> None:
    a_long_name(root := tmp_path / "images")
    opened: list[object] = []
    monkeypatch.setattr(learner, "read_records", lambda *arguments: opened.append(arguments))
    run = simulate("--dataset", "folder", "--data-root", str(root), *OPTIONS, "--method", method)
    assert run.status == 2
    assert not run.folder.exists()  # nobody was enrolled for it
    said = " ".join(capsys.readouterr().err.split())
    sentence = f"the class {LONG!r} takes 32 or more of the 32 tokens of tiny"
    assert said.startswith(f"error: {sentence}")

    stage = staged(tmp_path, root / "b", {"class_names": classes_of(root), "method": method}, monkeypatch)
    error, _ = stage.play()
    assert str(error).startswith(sentence)
    assert stage.told() == [Reason.PLAN_IMPOSSIBLE.value]
    assert not opened
    assert stage.spent() == []
