"""Public docstrings say what STYLE asks for: a summary line, arguments where there are several, our errors.

Read from the syntax trees alone, so nothing is imported. What a docstring says of an argument or an error is
for its readers to judge; that it says anything is checked here.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("crypto/fedapt_crypto", "server/fedapt_server", "client/fedapt_client", "fedapt_secure")
MANY_ARGUMENTS = 3
COMMANDS = "fedapt_secure/cli/"
"""Options of commands are explained to their users, by the option itself."""
TELLS_ERRORS = {"Raises", "raises", "raised", "Raise", "See", "see"}
TELLS_ARGUMENTS = {"Args:", "See", "see"}
"""``See `X` ``: the interface says it once for all that follow it."""
ERRORS = {
    node.name
    for node in ast.parse((ROOT / "crypto/fedapt_crypto/errors.py").read_text()).body
    if isinstance(node, ast.ClassDef)
}


@dataclass(frozen=True)
class Public:
    """A public function, method or class, and what it is inside of."""

    where: str
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    owner: ast.ClassDef | None

    @property
    def text(self) -> str:
        return ast.get_docstring(self.node) or ""

    @property
    def told(self) -> str:
        """Its docstring and that of its class, which says what ``__init__`` takes and raises."""
        return self.text + (ast.get_docstring(self.owner) or "" if self.owner is not None else "")

    @property
    def arguments(self) -> list[str]:
        assert not isinstance(self.node, ast.ClassDef)
        taken = [*self.node.args.posonlyargs, *self.node.args.args, *self.node.args.kwonlyargs]
        names = [one.arg for one in taken]
        return [name for name in names if name not in ("self", "cls") and not name.startswith("_")]


def decorators(node: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    return {ast.unparse(one).split("(")[0].split(".")[-1] for one in node.decorator_list}


def is_public(node: ast.AST) -> bool:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return False
    return not node.name.startswith("_") or node.name == "__init__"


def members(where: str, body: list[ast.stmt], owner: ast.ClassDef | None = None) -> Iterator[Public]:
    for node in body:
        if not is_public(node):
            continue
        assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        yield Public(f"{where}:{node.lineno} {node.name}", node, owner)
        if isinstance(node, ast.ClassDef):
            yield from members(where, node.body, node)


def modules() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def everything() -> Iterator[Public]:
    for path in modules():
        yield from members(str(path.relative_to(ROOT)), ast.parse(path.read_text()).body)


def functions() -> Iterator[Public]:
    return (
        one
        for one in everything()
        if not isinstance(one.node, ast.ClassDef)
        and not decorators(one.node) & {"overload", "override", "setter"}
    )


def is_command(one: Public) -> bool:
    """Whether its docstring is shown to users: then its errors are for them to read when they come."""
    return one.where.startswith(COMMANDS) and "Annotated" in ast.unparse(one.node.args)


def summary_of(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else ""


def raised(node: ast.AST) -> set[str]:
    """Return which of our errors a function raises itself, outside of functions inside of it."""
    found: set[str] = set()
    waiting = list(ast.iter_child_nodes(node))
    while waiting:
        one = waiting.pop()
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(one, ast.Raise) and one.exc is not None:
            error = one.exc.func if isinstance(one.exc, ast.Call) else one.exc
            found.add(ast.unparse(error).split(".")[-1])
        waiting += ast.iter_child_nodes(one)
    return found & ERRORS


def test_every_module_says_in_its_first_line_what_it_is() -> None:
    bad = [
        str(path.relative_to(ROOT))
        for path in modules()
        if not summary_of(ast.get_docstring(ast.parse(path.read_text())) or "")
    ]
    assert not bad


def test_everything_public_has_a_summary_line() -> None:
    bad = [
        one.where
        for one in everything()
        if one.node.name != "__init__"
        and not summary_of(one.text).rstrip("\"'").endswith((".", ":", "?", ";"))
    ]
    assert not bad, "\n".join(bad)


def test_errors_of_ours_are_told() -> None:
    bad = []
    for one in functions():
        errors = raised(one.node)
        said = one.told if one.node.name == "__init__" else one.text
        if (
            errors
            and not is_command(one)
            and not (TELLS_ERRORS & {word.strip("`;:") for word in said.split()})
        ):
            bad.append(f"{one.where}: {', '.join(sorted(errors))}")
    assert not bad, "\n".join(bad)


def test_several_arguments_are_explained() -> None:
    bad = []
    for one in functions():
        if one.where.startswith(COMMANDS) or len(one.arguments) < MANY_ARGUMENTS:
            continue
        said = one.told if one.node.name == "__init__" else one.text
        missing = [name for name in one.arguments if name not in said]
        if not TELLS_ARGUMENTS & set(said.split()) and len(missing) == len(one.arguments):
            bad.append(f"{one.where}: {', '.join(missing)}")
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize(
    ("source", "errors"),
    [
        ("def f():\n    raise InvalidInput('x')", {"InvalidInput"}),
        ("def f():\n    raise errors.PeerError('x') from None", {"PeerError"}),
        ("def f():\n    def g():\n        raise InvalidInput('x')", set()),
        ("def f():\n    raise ValueError('x')", set()),
    ],
)
def test_the_search_for_errors_finds_them(source: str, errors: set[str]) -> None:
    assert raised(ast.parse(source).body[0]) == errors
