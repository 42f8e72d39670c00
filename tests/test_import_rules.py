"""The rules of the house, read from the source: who may import whom, which libraries, how large rooms are."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import pytest

from docs import rooms

ROOT = rooms.ROOT
OURS = frozenset(rooms.PACKAGES)
HEAVY = frozenset({"torch", "torchvision", "open_clip", "opacus", "sklearn"})
IO = frozenset({"websockets", "ssl", "asyncio"})
IO_SHELLS = (
    "fedapt_server.rehearsing",
    "fedapt_server.service",
    "fedapt_server.running",
    "fedapt_server.ports.front_door",
    "fedapt_server.ports.rounds_port",
    "fedapt_server.ports.outbox",
    "fedapt_server.ports.refusals",
    "fedapt_server.membership.enrolment_service",
    "fedapt_server.__main__",
    "fedapt_client.runner",
    "fedapt_client.conduct",
    "fedapt_client.saying",
    "fedapt_client.membership.renewal",
    "fedapt_client.training.fetch",
    "fedapt_client.membership.connecting",
    "fedapt_client.membership.desk",
    "fedapt_client.membership.offer",
    "fedapt_client.doctor",
    "fedapt_client.__main__",
    "fedapt_secure.simulate",
    "fedapt_secure.protocol.transport",
    "fedapt_secure.protocol.keepalive",
    "fedapt_secure.protocol.tls_advice",
    "fedapt_secure.cli.work.running.enrolment_server",
    "fedapt_secure.cli.commands.client",
    "fedapt_secure.web.application",
    "fedapt_secure.web.process",
)
MAX_LINES = 400
MAX_MODULES = 20
SOURCE = (*(path.relative_to(ROOT) for path in rooms.PACKAGES.values()), Path("benchmarks"), Path("tests"))

ORDER: Mapping[str, tuple[str, ...]] = {
    "fedapt_crypto": (
        "decoding_cost errors keystream fixed_point parallel sharing shamir",
        "certificates encoding masks merkle private_files",
        "kdf pki",
        "identity seal protected_keys sum_tag",
        "domain_keys roster",
        "secagg",
    ),
    "fedapt_crypto.secagg": (
        "scheme signed cohorts tags",
        "institution_machine plain group_secret",
        "masking ckks",
        "registry",
        "announced groups",
    ),
    "fedapt_secure": (
        "process",
        "log pages privacy",
        "config",
        "notices web",
        "protocol",
        "audit",
        "learning",
        "inference privacy_test",
        "export simulate",
        "cli",
    ),
    "fedapt_secure.audit": ("findings", "evidence", "checks", "judgement", "report"),
    "fedapt_secure.protocol": (
        "class_names clocks headbook initial_context keepalive key_assignment methods reasons resolution"
        " tls_advice unsupervised joining",
        "parameters",
        "plan",
        "session stated",
        "hiding message_sizes messages",
        "statements transport",
    ),
    "fedapt_secure.learning": (
        "clip",
        "batches data",
        "privacy",
        "methods",
        "bundle evaluation training",
        "tiny_clip",
    ),
    "fedapt_secure.learning.data": (
        "reading",
        "counting features layouts partition few_shot",
        "digits",
        "dealing",
    ),
    "fedapt_secure.learning.data.reading": (
        "classes copies likeness unusable",
        "medical",
        "images listing",
        "decoding manifest",
        "augmentation inside",
        "records",
        "balance unused",
    ),
    "fedapt_secure.simulate": (
        "engines",
        "setup",
        "running",
        "results",
        "command comparison",
        "leave_one_out paper",
    ),
    "fedapt_secure.cli": ("options preparing", "work", "commands", "app"),
    "fedapt_secure.cli.work": (
        "audit balance_report coordinator_folder doctor_report documents ledger evaluation_report"
        " membership_report model_report offer_report paper planning prediction_report rehearsal_report"
        " roster_report running server_model service_report",
        "export_report",
    ),
    "fedapt_client": (
        "activity endings narration offer_words session settings",
        "activity_words",
        "books membership",
        "doctor offer_facts status training",
        "diary institution page saying",
        "group_work rehearsal",
        "conduct",
        "runner",
        "__main__",
    ),
    "fedapt_server": (
        "narration refusal session settings",
        "archive metrics notices status",
        "ports",
        "membership service standing",
        "page running",
        "rehearsing",
        "__main__",
    ),
}
"""What lies in each folder that has rooms in it, from below: an import goes down, never up or sideways."""

MODULES = rooms.modules()


@cache
def imports() -> dict[str, set[str]]:
    """Return which of ours each module imports; not read by each process that looks for tests."""
    return {name: rooms.imported_modules(path, MODULES) - {name} for name, path in MODULES.items()}


def tops(name: str) -> set[str]:
    return {imported.split(".")[0] for imported in rooms.imported_names(MODULES[name])}


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def against_the_order(
    imports: Mapping[str, Iterable[str]], package: str, levels: tuple[str, ...]
) -> list[str]:
    """Return each import inside a package that does not go down, in words."""
    level = {child: number for number, names in enumerate(levels) for child in names.split()}

    def child_of(module: str) -> str | None:
        return module.removeprefix(package + ".").split(".")[0] if module.startswith(package + ".") else None

    wrong = []
    for module, others in imports.items():
        here = child_of(module)
        for other in others:
            there = child_of(other)
            if here and there and here != there and level[there] >= level[here]:
                wrong.append(f"{module} imports {other}")
    return sorted(wrong)


def cycles(imports: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Return the groups of modules that import each other in a circle (Tarjan 1972)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    waiting: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        number[module] = lowest[module] = len(number)
        waiting.append(module)
        for other in imports.get(module, ()):
            if other not in number:
                visit(other)
            if other in waiting:
                lowest[module] = min(lowest[module], lowest[other])
        if lowest[module] == number[module]:
            group = waiting[waiting.index(module) :]
            del waiting[waiting.index(module) :]
            if len(group) > 1:
                found.append(sorted(group))

    for module in imports:
        if module not in number:
            visit(module)
    return found


def too_full(folders: Iterable[Path], most: int) -> list[str]:
    """Return the folders that hold more modules than a reader can look over; ``__init__`` is none."""
    counts = {
        folder: sum(path.suffix == ".py" and path.name != "__init__.py" for path in folder.iterdir())
        for folder in folders
    }
    return [f"{folder}: {count} modules" for folder, count in counts.items() if count > most]


def test_a_room_keeps_to_its_neighbours() -> None:
    for name in MODULES:
        ours = tops(name) & OURS
        if within(name, "fedapt_crypto"):
            assert ours <= {"fedapt_crypto"}
            assert not tops(name) & HEAVY
        if within(name, "fedapt_server"):
            assert "fedapt_client" not in ours
            assert not tops(name) & HEAVY
        if within(name, "fedapt_client"):
            assert "fedapt_server" not in ours
        if within(name, "fedapt_secure") and not within(name, "fedapt_secure.cli", "fedapt_secure.simulate"):
            assert not ours & {"fedapt_server", "fedapt_client"}


def test_libraries_stay_in_their_rooms() -> None:
    for name in MODULES:
        used = tops(name)
        if used & IO:
            assert within(name, *IO_SHELLS)
        if "tenseal" in used:
            assert within(name, "fedapt_crypto.secagg.ckks")
        if used & {"opacus", "open_clip", "sklearn"}:
            assert within(name, "fedapt_secure.learning")
        if "ray" in used:
            assert name == "fedapt_secure.simulate.engines.ray_actors"
        assert "pickle" not in used


def test_what_people_see_goes_through_one_place() -> None:
    """Or it fails where a terminal's encoding lacks a letter, and shows raw what a file or peer says."""
    for name in MODULES:
        if not within(name, "fedapt_secure.process", "fedapt_secure.learning.tiny_clip"):
            text = MODULES[name].read_text()
            assert not re.search(r"\bConsole\(|typer\.echo\(|(?<!\.)\bprint\(|sys\.stdout\.write\(f", text)


def test_the_rules_see_the_whole_tree() -> None:
    assert len(MODULES) > 300
    assert {name.split(".")[0] for name in MODULES} == OURS
    assert all(within(shell, *MODULES) for shell in IO_SHELLS)


@pytest.mark.parametrize("package", ["protocol", "privacy", "audit", "log"])
def test_an_auditor_needs_no_torch(package: str) -> None:
    names = [name for name in MODULES if within(name, f"fedapt_secure.{package}")]
    code = f"import sys, {', '.join(names)}; sys.exit(bool({set(HEAVY)!r} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestTheOrderOfRooms:
    @pytest.mark.parametrize("package", ORDER)
    def test_imports_go_down(self, package: str) -> None:
        wrong = against_the_order(imports(), package, ORDER[package])
        assert not wrong, "\n".join(wrong)

    @pytest.mark.parametrize("package", ORDER)
    def test_every_room_and_module_has_its_place(self, package: str) -> None:
        prefix = package + "."
        there = {name.removeprefix(prefix).split(".")[0] for name in MODULES if name.startswith(prefix)}
        placed = [name for names in ORDER[package] for name in names.split()]
        assert sorted(placed) == sorted(there)

    def test_every_folder_with_rooms_has_an_order(self) -> None:
        folders = {name for name, path in MODULES.items() if rooms.is_package(name, MODULES)}
        with_rooms = {name.rpartition(".")[0] for name in folders} - {""}
        # Peers behind one registry, each of which may use what lies beside it.
        assert with_rooms - set(ORDER) == set()

    def test_an_import_up_or_sideways_is_found(self) -> None:
        imports = {
            "p.low.a": ["p.high"],
            "p.high": ["p.low.a", "p.peer.b"],
            "p.peer.b": ["other", "p.peer.c"],
        }
        levels = ("low", "high peer")
        assert against_the_order(imports, "p", levels) == [
            "p.high imports p.peer.b",
            "p.low.a imports p.high",
        ]


def test_no_module_imports_itself_through_others() -> None:
    assert not cycles(imports())


@pytest.mark.parametrize(
    ("imports", "found"),
    [
        ({"a": ["b"], "b": ["c"], "c": ["b"]}, [["b", "c"]]),
        ({"a": ["b", "c"], "b": ["c"], "c": []}, []),
        ({"a": ["b"], "b": ["a"], "c": ["d"], "d": ["c"]}, [["a", "b"], ["c", "d"]]),
    ],
)
def test_a_circle_is_found(imports: dict[str, list[str]], found: list[list[str]]) -> None:
    assert cycles(imports) == found


class TestSizes:
    def test_no_folder_is_a_corridor(self) -> None:
        folders = {path.parent for top in SOURCE for path in (ROOT / top).rglob("*.py")}
        assert not too_full(folders, MAX_MODULES)

    def test_a_corridor_is_found(self, tmp_path: Path) -> None:
        for number in range(3):
            (tmp_path / f"module_{number}.py").touch()
        (tmp_path / "__init__.py").touch()
        assert too_full([tmp_path], 3) == []
        assert too_full([tmp_path], 2) == [f"{tmp_path}: 3 modules"]

    def test_no_module_is_too_long(self) -> None:
        assert not [name for name, path in MODULES.items() if len(path.read_text().splitlines()) > MAX_LINES]

    def test_no_benchmark_is_too_long(self) -> None:
        paths = [*(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "docs").rglob("*.py")]
        assert not [path for path in paths if len(path.read_text().splitlines()) > MAX_LINES]


ROOMS = [name for name in MODULES if rooms.is_package(name, MODULES)]


def docstring(name: str) -> str:
    return ast.get_docstring(ast.parse(MODULES[name].read_text())) or ""


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_says_what_it_is_for_and_what_is_in_it(name: str) -> None:
    assert len(docstring(name).splitlines()) > 2, "say its purpose, its few primitives, and what may come in"


@pytest.mark.parametrize("name", ROOMS)
def test_what_a_room_names_is_there(name: str) -> None:
    """Single backticks: a module of the room or of the one around it, or ``module.Name`` from anywhere."""

    def found(said: str) -> set[str]:
        near = {said, f"{name}.{said}", f"{name.rpartition('.')[0]}.{said}"} & MODULES.keys()
        return near or {other for other in MODULES if "." in said and other.endswith("." + said)}

    for said in re.findall(r"(?<!`)`([\w.]+)`(?!`)", docstring(name)):
        module, _, defined = said.rpartition(".")
        inside = any(
            re.search(rf"(def|class) {defined}\b", MODULES[other].read_text()) for other in found(module)
        )
        assert found(said) or inside, f"speaks of {said}"


def test_the_rooms_themselves_are_not_packages() -> None:
    for room in ("server", "client", "crypto"):
        assert not (ROOT / room / "__init__.py").exists()


def test_a_wheel_has_all_packages() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    code = [name for name in listed if not within(name, "fedapt_secure.documents")]
    assert sorted(code) == sorted(name for name in MODULES if rooms.is_package(name, MODULES))


def test_the_drawing_of_the_rooms_is_up_to_date() -> None:
    assert rooms.PICTURE.read_text() == rooms.picture(), "run python -m docs.rooms"


def test_one_place_says_which_policy_holds() -> None:
    """A command that read a policy by itself would show another institution's figures, or nobody's."""
    askers = {
        name
        for name, path in MODULES.items()
        if "read_policy(" in path.read_text(encoding="utf-8") and "/tests/" not in str(path)
    }
    assert askers == {"fedapt_secure.config.policy", "fedapt_client.books.in_force"}
