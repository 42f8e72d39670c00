"""Write the generated parts of SPEC.md: message tables and state diagrams, from the code's own tables.

    python crypto/spec_tables.py [--check]

Everything between ``<!-- generated: NAME -->`` and ``<!-- end -->`` is replaced. ``--check`` changes nothing
and exits with 1 where SPEC.md is not up to date.
"""

import sys
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic.fields import FieldInfo

from fedapt_crypto.encoding import Message
from fedapt_crypto.secagg import scheme, signed
from fedapt_crypto.secagg.ckks import institution as ckks_institution
from fedapt_crypto.secagg.ckks import messages as ckks_messages
from fedapt_crypto.secagg.masking import coordinator as masking_coordinator
from fedapt_crypto.secagg.masking import institution as masking_institution
from fedapt_crypto.secagg.masking import messages
from fedapt_secure.config.ranges import Range
from fedapt_secure.log import heads
from fedapt_secure.protocol import messages as session_messages
from fedapt_secure.protocol.session import SessionConfiguration, SessionPlan

SPEC = Path(__file__).parent / "SPEC.md"


def type_of(annotation: Any, metadata: Iterable[Any]) -> str:
    """Return what a field holds, in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return "text " + ", ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        inner = next(each for each in arguments if each is not type(None))
        return type_of(inner, metadata) + " or nil"
    if hasattr(annotation, "__metadata__"):
        return type_of(annotation.__origin__, [*annotation.__metadata__, *metadata])
    if origin is tuple:
        return f"array of {type_of(arguments[0], [])}"
    flat = [m for each in metadata for m in ([*each.metadata] if isinstance(each, FieldInfo) else [each])]
    low = next((m.min_length for m in flat if isinstance(m, MinLen)), None)
    high = next((m.max_length for m in flat if isinstance(m, MaxLen)), None)
    if annotation is bytes:
        if low is not None and low == high:
            return f"{low} bytes"
        return "bytes" if high is None else f"bytes, {low or 0} to {high}"
    for allowed in (m for m in flat if isinstance(m, Range)):
        kind = {int: "integer", float: "float64"}[annotation]
        return f"{kind}, {allowed}"
    if annotation is int:
        least = next((m.ge for m in flat if isinstance(m, Ge)), None)
        most = next((m.le for m in flat if isinstance(m, Le)), None)
        return "integer" + (f" from {least}" if least is not None else "") + (f" to {most}" if most else "")
    if annotation is str:
        return "text" if high is None else f"text, at most {high}"
    return {float: "float64", bool: "boolean"}.get(annotation, f"`{annotation.__name__}`")


def message_tables(classes: Iterable[type[Message]]) -> str:
    """Return one table a message: field and contents, in the order of the encoding (sorted)."""
    parts = []
    for cls in classes:
        summary = (cls.__doc__ or "").split("\n")[0]
        rows = [
            f"| `{name}` | {type_of(field.annotation, field.metadata)} |"
            for name, field in sorted(cls.model_fields.items())
        ]
        parts.append(f"**{cls.__name__}.** {summary}\n\n| field | contents |\n|---|---|\n" + "\n".join(rows))
    return "\n\n".join(parts)


def defined_in(module: types.ModuleType) -> list[type[Message]]:
    """Return the message classes a module defines, in its order."""
    found = [value for value in vars(module).values() if isinstance(value, type)]
    return [
        cls
        for cls in found
        if issubclass(cls, Message) and cls.__module__ == module.__name__ and cls.__name__ != "SignedMessage"
    ]


def institution_diagram(transitions: Mapping[Any, tuple[type[Message], Any]], first: str) -> str:
    """Return a state diagram of an institution's machine."""
    states = [*transitions]
    names = [state.name for state in states] + ["FINISHED"]
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> NEW", f"    NEW --> {names[0]}: {first}"]
    for state, following in zip(states, names[1:], strict=True):
        kind = transitions[state][0].model_fields["kind"].default
        lines.append(f"    {state.name} --> {following}: {kind}")
        lines.append(f"    {state.name} --> ABORTED: a check fails")
    return "\n".join([*lines, "    FINISHED --> [*]", "    ABORTED --> [*]", "```"])


def coordinator_diagram() -> str:
    """Return a state diagram of the masking coordinator."""
    phases = list(masking_coordinator._COLLECTING)
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {phases[0].value}"]
    for phase, following in zip(phases, [*phases[1:], None], strict=True):
        after = following.value if following is not None else "SUM"
        lines.append(f"    {phase.value} --> {after}: closed with enough")
        lines.append(f"    {phase.value} --> ABORTED: too few, or an abort")
    return "\n".join([*lines, "    SUM --> [*]", "    ABORTED --> [*]", "```"])


PARTS: Mapping[str, Callable[[], str]] = {
    "context": lambda: message_tables([scheme.RoundContext]),
    "masking messages": lambda: message_tables([*defined_in(messages), *defined_in(signed)]),
    "masking institution": lambda: institution_diagram(masking_institution._TRANSITIONS, "advertise"),
    "masking coordinator": coordinator_diagram,
    "ckks messages": lambda: message_tables(defined_in(ckks_messages)),
    "ckks institution": lambda: institution_diagram(ckks_institution._TRANSITIONS, "update"),
    "log messages": lambda: message_tables(defined_in(heads)),
    "session messages": lambda: message_tables(
        [*defined_in(session_messages), SessionConfiguration, SessionPlan]  # type: ignore[list-item]
    ),
}


def filled(text: str) -> str:
    """Return the specification with its generated parts as they must be."""
    for name, make in PARTS.items():
        start, end = f"<!-- generated: {name} -->", "<!-- end -->"
        head, _, rest = text.partition(start)
        _, found, tail = rest.partition(end)
        if not found:
            raise SystemExit(f"SPEC.md has no part {name!r}")
        text = f"{head}{start}\n{make()}\n{end}{tail}"
    return text


def main() -> None:
    """Write the parts, or check them."""
    text = SPEC.read_text(encoding="utf-8")
    wanted = filled(text)
    if "--check" in sys.argv[1:]:
        sys.exit(int(text != wanted))
    SPEC.write_text(wanted, encoding="utf-8")


if __name__ == "__main__":
    main()
