"""SPEC.md names what the code has: messages of a session, labels, codes and sections that others point to."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedapt_crypto import identity, kdf, seal
from fedapt_crypto.encoding import Message
from fedapt_crypto.secagg import registry
from fedapt_secure.protocol import messages, stated
from fedapt_secure.protocol.reasons import MEANINGS
from tests.protocol.federation import Federation

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "crypto" / "SPEC.md").read_text(encoding="utf-8")
KINDS = {**messages.FROM_COORDINATOR, **messages.FROM_INSTITUTION}


def section(heading: str) -> str:
    """Return a section's text, from its heading to the next one of its kind or above."""
    level = heading.split(" ", maxsplit=1)[0]
    text = TEXT.split(f"\n{heading}", 1)[1]
    return re.split(rf"\n#{{2,{len(level)}}} ", text, maxsplit=1)[0]


def prose(text: str) -> str:
    """Return a text without what is generated, on one line."""
    return " ".join(re.sub(r"<!-- generated.*?<!-- end -->", "", text, flags=re.DOTALL).split())


def defined(module: Any) -> set[str]:
    found = (value for value in vars(module).values() if isinstance(value, type))
    return {one.__name__ for one in found if issubclass(one, Message) and one.__module__ == module.__name__}


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_a_session_speaks_of_every_message(kind: str) -> None:
    assert f"`{kind}`" in prose(section("### 3.1 "))


def test_every_message_of_the_session_protocol_has_its_table() -> None:
    tables = set(re.findall(r"^\*\*(\w+)\.\*\* ", section("### 3.2 "), re.MULTILINE))
    assert tables == defined(messages) == {one.__name__ for one in KINDS.values()}
    stated_ = set(re.findall(r"^\*\*(\w+)\.\*\* ", section("### 10.3 "), re.MULTILINE))
    assert stated_ == defined(stated)


def test_sections_that_are_pointed_to_are_there() -> None:
    headings = set(re.findall(r"^#{2,3} ([\d.]+?)\.? ", TEXT, re.MULTILINE))
    named = set(re.findall(r"(?<!, )\bsections? (\d+(?:\.\d+)?)", TEXT))
    assert "10" in headings
    assert named <= headings


def test_every_code_has_a_row_in_the_page_that_the_tables_point_to() -> None:
    page = (ROOT / "docs" / "sessions.md").read_text(encoding="utf-8").split("\n## Codes\n", 1)[1]
    rows = re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \|$", page, re.MULTILINE)
    assert {code: (says, todo) for code, says, todo in rows} == {
        reason.value: (meaning.said, meaning.call) for reason, meaning in MEANINGS.items()
    }


class TestLabels:
    LISTED = " ".join(section("### 2.3 ").split("**Labels.**", 1)[1].split("**Fixed point.**", 1)[0].split())
    NAMES = frozenset(re.findall(r'"([^"]+)"', LISTED))

    def is_listed(self, label: str) -> bool:
        if label in self.NAMES:
            return True
        assert {"secagg commit KIND", "secagg KIND", "ckks …"} <= self.NAMES
        if label.removeprefix("secagg ") in re.findall(r"\| `kind` \| text `([^`]+)` \|", TEXT):
            return True
        return label.startswith(("secagg commit ", "ckks "))

    @pytest.mark.parametrize("scheme", [registry.MASKING, registry.CKKS, registry.NONE])
    def test_a_session_uses_no_other_ones(self, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
        if scheme == registry.CKKS:
            pytest.importorskip("tenseal")
        used: set[str] = set()

        def noting(real: Callable[..., bytes]) -> Callable[..., bytes]:
            def labelled(label: str, *parts: Any) -> bytes:
                used.add(label)
                return real(label, *parts)

            return labelled

        for module in (kdf, identity, seal):
            monkeypatch.setattr(module, "labelled", noting(kdf.labelled))
        rules = {"differential_privacy": True} if scheme != registry.NONE else {}
        federation = Federation(3, rounds=1, secure_aggregation=scheme, **rules)
        federation.requirements = federation.requirements.__class__(
            differential_privacy=False, aggregation=tuple(registry.PHASES), minimum_participants=1
        )
        federation._begin(bytes(16))
        federation.run()
        assert {"verified sum", "model", "roster", "session offer", "round context"} <= used
        assert not {label for label in used if not self.is_listed(label)}
