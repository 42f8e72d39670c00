"""Write the generated parts of SPEC.md and ENROLMENT.md: tables and state diagrams, from the code's own.

    python crypto/spec_tables.py [--check]

Everything between ``<!-- generated: NAME -->`` and ``<!-- end -->`` is replaced. ``--check`` changes nothing
and exits with 1 where a page is not up to date.
"""

import re
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen, MultipleOf
from pydantic.fields import FieldInfo

from fedapt_client.session import states as institution_states
from fedapt_crypto.encoding import DEFAULT_MAX_BYTES, Message, PartyName, TaggedMessage
from fedapt_crypto.roster import Member, Roster
from fedapt_crypto.secagg import group_secret, plain, registry, scheme, signed
from fedapt_crypto.secagg.ckks import institution as ckks_institution
from fedapt_crypto.secagg.ckks import messages as ckks_messages
from fedapt_crypto.secagg.masking import coordinator as masking_coordinator
from fedapt_crypto.secagg.masking import graph, messages, sums
from fedapt_crypto.secagg.masking import institution as masking_institution
from fedapt_secure.config.model_identity import ModelIdentity
from fedapt_secure.config.ranges import Range
from fedapt_secure.log import heads
from fedapt_secure.protocol import messages as session_messages
from fedapt_secure.protocol import stated
from fedapt_secure.protocol.initial_context import InitialContext
from fedapt_secure.protocol.joining import enrolment
from fedapt_secure.protocol.joining.join_string import JoinString
from fedapt_secure.protocol.plan import ExpectedBudget, SessionPlan
from fedapt_secure.protocol.session import SessionConfiguration
from fedapt_secure.protocol.unsupervised import UnsupervisedPlan
from fedapt_server.session import states as coordinator_states

PAGES = [Path(__file__).parent / name for name in ("SPEC.md", "ENROLMENT.md")]


NAME_PATTERN = PartyName.__metadata__[0].metadata[-1].pattern
MANY_WORDS = 12
"""Lists of words that are longer stand elsewhere."""


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
    limits = [m for each in metadata for m in (each.metadata if isinstance(each, FieldInfo) else [each])]
    low = next((m.min_length for m in limits if isinstance(m, MinLen)), 0)
    high = next((m.max_length for m in limits if isinstance(m, MaxLen)), None)
    if origin is tuple:
        of = type_of(arguments[0], [])
        if arguments[-1] is not ...:
            return f"array of {len(arguments)}, each {of}"
        return f"array of {of}" if (low, high) == (0, None) else f"array{between(low, high)}, of {of}"
    if annotation is bytes:
        return f"{low} bytes" if low == high else f"bytes{between(low, high)}"
    for allowed in (m for m in limits if isinstance(m, Range)):
        kind = {int: "integer", float: "float64"}[annotation]
        return f"{kind}, {allowed}"
    if annotation in (int, float):
        return number_type(annotation, limits)
    if annotation is str:
        pattern = next((m.pattern for m in limits if getattr(m, "pattern", None)), None)
        return f"text{between(low, high)}" if pattern is None else text_of(pattern, between(low, high))
    return "boolean" if annotation is bool else f"`{annotation.__name__}`"


def between(low: int, high: int | None) -> str:
    """Return the limits of a length."""
    if high is None:
        return f", at least {low}" if low else ""
    return f", {low} to {high}"


def number_type(annotation: type, limits: Iterable[Any]) -> str:
    """Return the kind and the ends of a number."""
    words = "integer" if annotation is int else "finite float64"
    for limit in limits:
        match limit:
            case Ge(ge=end):
                words += f" from {end:.10g}" if annotation is float else f" from {end}"
            case Gt(gt=end):
                words += f" above {end}"
            case Le(le=end):
                words += f" to {end:.10g}" if annotation is float else f" to {end}"
            case Lt(lt=end):
                words += f" to {int(end) - 1}" if annotation is int else f" below {end}"
            case MultipleOf(multiple_of=step):
                words += f", a multiple of {step}"
    return words


def text_of(pattern: str, length: str) -> str:
    """Return what a text with a pattern is."""
    if pattern == NAME_PATTERN:
        return "name"
    words = pattern.removeprefix("^(").removesuffix(")$").split("|")
    if not all(word.isidentifier() for word in words):
        return f"text{length}, `{pattern}`".replace("|", "\\|")
    if len(words) > MANY_WORDS:
        return "text, a code of [sessions.md](../docs/sessions.md)"
    return "text " + ", ".join(f"`{word}`" for word in words)


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


GRAPH_SIZES = (65, 80, 100, 128, 200, 256, 300, 400, 500, 512, 750, 1000, 1500, 2000, 3000, 4096)


def graph_table() -> str:
    """Return the sizes of neighbour graphs for some sizes of a round."""
    rows = []
    for n in GRAPH_SIZES:
        sizes = graph.topology(n)
        most = graph.most_incoming(n, sizes.neighbours)
        rows.append(f"| {n:,} | {sizes.neighbours} | {sizes.share_threshold} | {sizes.quorum:,} | {most} |")
    return "| n | k | t | quorum | d |\n|---|---|---|---|---|\n" + "\n".join(rows)


def phase_table() -> str:
    """Return the phases of each scheme, and how many institutions it is for."""
    rows = []
    for name, phases in registry.PHASES.items():
        words = ", ".join(f"`{phase}`" for phase in phases)
        least, most = registry.MIN_INSTITUTIONS[name], registry.MAX_INSTITUTIONS[name]
        rows.append(f"| `{name}` | {words} | {least:,} to {most:,} |")
    head = "| `secure_aggregation` | `phase`, in this order | institutions in a round |\n|---|---|---|\n"
    return head + "\n".join(rows)


def order_table() -> str:
    """Return which message is taken in which state of its receiver, from the tables of both machines."""
    rows = []
    for kind in session_messages.FROM_COORDINATOR:
        taken = institution_states.Answer.TAKEN
        states = [
            state.name for state, answers in institution_states.TABLE.items() if answers.get(kind) == taken
        ]
        rows.append(f"| `{kind}` | coordinator | {', '.join(states) or 'answer to `model request`'} |")
    for kind in session_messages.FROM_INSTITUTION:
        places: dict[str, list[str]] = {}
        for (state, presence), answers in coordinator_states.TABLE.items():
            if answers.get(kind) == coordinator_states.Answer.TAKEN:
                places.setdefault(presence.name, []).append(state.name)
        by_states: dict[str, list[str]] = {}
        for presence_name, names in places.items():
            by_states.setdefault(", ".join(names), []).append(presence_name)
        where = "; ".join(f"{names}: {', '.join(present)}" for names, present in by_states.items())
        otherwise = "answer to `rehearse`" if kind == "rehearsed" else "first on a connection"
        rows.append(f"| `{kind}` | institution | {where or otherwise} |")
    return "| message | from | taken in state |\n|---|---|---|\n" + "\n".join(rows)


CAPPED = (
    session_messages,
    stated,
    enrolment,
    heads,
    group_secret,
    messages,
    sums,
    signed,
    ckks_messages,
    plain,
)


def cap_table() -> str:
    """Return the most bytes of every message that has a limit of its own."""
    classes = [cls for module in CAPPED for cls in defined_in(module)]
    classes += [JoinString, SessionConfiguration, Roster]
    rows = []
    for cls in (each for each in classes if each.max_bytes != DEFAULT_MAX_BYTES):
        kind = f"`{cls.tag()}`" if issubclass(cls, TaggedMessage) else "-"
        rows.append(f"| {cls.__name__} | {kind} | {cls.max_bytes:,} |")
    rows.append(f"| every other one | | {DEFAULT_MAX_BYTES:,} |")
    return "| message | kind | at most, in bytes |\n|---|---|---|\n" + "\n".join(rows)


PARTS: Mapping[str, Callable[[], str]] = {
    "context": lambda: message_tables([scheme.RoundContext]),
    "masking messages": lambda: message_tables(
        [*defined_in(messages), *defined_in(sums), *defined_in(signed)]
    ),
    "group secret messages": lambda: message_tables(defined_in(group_secret)),
    "masking institution": lambda: institution_diagram(masking_institution._TRANSITIONS, "advertise"),
    "masking coordinator": coordinator_diagram,
    "ckks messages": lambda: message_tables(defined_in(ckks_messages)),
    "ckks institution": lambda: institution_diagram(ckks_institution._TRANSITIONS, "update"),
    "log messages": lambda: message_tables(defined_in(heads)),
    "statements": lambda: message_tables(defined_in(stated)),
    "plain messages": lambda: message_tables(defined_in(plain)),
    "session messages": lambda: message_tables(defined_in(session_messages)),
    "session configuration": lambda: message_tables(
        [SessionConfiguration, SessionPlan, ExpectedBudget, InitialContext, ModelIdentity, UnsupervisedPlan]  # type: ignore[list-item]
    ),
    "roster": lambda: message_tables([Roster, Member]),
    "enrolment messages": lambda: message_tables([JoinString, *defined_in(enrolment)]),
    "caps": cap_table,
    "graph sizes": graph_table,
    "phases": phase_table,
    "session order": order_table,
}


def filled(text: str) -> tuple[str, set[str]]:
    """Return a page with its generated parts as they must be, and their names."""
    names = re.findall(r"<!-- generated: (.*?) -->", text)
    for name in names:
        start, end = f"<!-- generated: {name} -->", "<!-- end -->"
        head, _, rest = text.partition(start)
        _, found, tail = rest.partition(end)
        if not found:
            raise SystemExit(f"the part {name!r} has no end")
        text = f"{head}{start}\n{PARTS[name]()}\n{end}{tail}"
    return text, set(names)


def main() -> None:
    """Write the parts, or check them."""
    wrong, seen = [], set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        wanted, names = filled(text)
        seen |= names
        if text != wanted:
            wrong.append(page.name)
        if "--check" not in sys.argv[1:]:
            page.write_text(wanted, encoding="utf-8")
    if missing := PARTS.keys() - seen:
        raise SystemExit(f"no page has the part {min(missing)!r}")
    if "--check" in sys.argv[1:]:
        sys.exit(int(bool(wrong)))


if __name__ == "__main__":
    main()
