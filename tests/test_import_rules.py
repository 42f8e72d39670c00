"""The import rules of the four rooms, read from the source: who may import whom, and which libraries."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = {
    "fedapt_secure": ROOT / "fedapt_secure",
    "fedapt_server": ROOT / "server" / "fedapt_server",
    "fedapt_client": ROOT / "client" / "fedapt_client",
    "fedapt_crypto": ROOT / "crypto" / "fedapt_crypto",
}
OURS = frozenset(ROOMS)
HEAVY = frozenset({"torch", "torchvision", "open_clip", "opacus", "sklearn"})
IO = frozenset({"websockets", "ssl", "asyncio"})
IO_SHELLS = (
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
    "fedapt_client.membership.renewal",
    "fedapt_client.training.fetch",
    "fedapt_client.membership.desk",
    "fedapt_client.doctor",
    "fedapt_client.__main__",
    "fedapt_secure.simulate",
    "fedapt_secure.protocol.transport",
    "fedapt_secure.protocol.tls_advice",
    "fedapt_secure.cli.work.enrolment_server",
    "fedapt_secure.cli.commands.client",
)
MAX_LINES = 400


def modules() -> Iterator[tuple[str, Path]]:
    for package, folder in ROOMS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join([package, *(part for part in parts if part != "__init__")]), path


def imports(path: Path) -> set[str]:
    """Every imported module's dotted name, also those inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            assert node.level == 0, f"{path}: imports are absolute here"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


MODULES = dict(modules())
IMPORTS = {name: imports(path) for name, path in MODULES.items()}


def tops(name: str) -> set[str]:
    return {imported.split(".")[0] for imported in IMPORTS[name]}


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


@pytest.mark.parametrize("name", MODULES)
def test_a_room_keeps_to_its_neighbours(name: str) -> None:
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


@pytest.mark.parametrize("name", MODULES)
def test_libraries_stay_in_their_rooms(name: str) -> None:
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


def test_the_rules_see_the_whole_tree() -> None:
    assert len(MODULES) > 30
    assert {name.split(".")[0] for name in MODULES} == OURS


@pytest.mark.parametrize("package", ["protocol", "privacy", "audit"])
def test_an_auditor_needs_no_torch(package: str) -> None:
    names = [name for name in MODULES if within(name, f"fedapt_secure.{package}")]
    code = f"import sys, {', '.join(names)}; sys.exit(bool({set(HEAVY)!r} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_import_cycle_between_subpackages() -> None:
    graph: dict[str, set[str]] = {}
    for name, imported in IMPORTS.items():
        here = ".".join(name.split(".")[:2])
        for other in imported:
            there = ".".join(other.split(".")[:2])
            if there in {".".join(n.split(".")[:2]) for n in MODULES} and there != here:
                graph.setdefault(here, set()).add(there)
    subpackages = {name for name in graph if name.startswith("fedapt_secure.")}
    for start in subpackages:
        reached, todo = set(), [*graph.get(start, ())]
        while todo:
            at = todo.pop()
            if at not in reached and at.startswith("fedapt_secure."):
                reached.add(at)
                todo += graph.get(at, ())
        assert start not in reached, f"{start} imports itself through others"


@pytest.mark.parametrize("name", MODULES)
def test_no_room_is_too_large(name: str) -> None:
    assert len(MODULES[name].read_text().splitlines()) <= MAX_LINES


def test_the_rooms_themselves_are_not_packages() -> None:
    for room in ("server", "client", "crypto"):
        assert not (ROOT / room / "__init__.py").exists()
