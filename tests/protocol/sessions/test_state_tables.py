"""Every state of both machines with every message: taken, ignored or refused as the tables say."""

import re
from pathlib import Path
from types import MappingProxyType

import pytest
from pydantic import BaseModel

from fedapt_client.session import states as client
from fedapt_crypto.errors import UnexpectedMessage
from fedapt_crypto.secagg.masking import parties
from fedapt_secure.log.heads import CloseStatement
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.stated import SumStatement
from fedapt_server.session import states as server
from tests.protocol.federation import Federation

NAME = "clinic-1"
HEAD = {
    "party": NAME,
    "log": bytes(16),
    "seq": 1,
    "hash": bytes(32),
    "signature": bytes(64),
}
STATEMENT = CloseStatement(
    session=bytes(16), configuration=bytes(32), model=bytes(32), completed_rounds=0, transcript=bytes(32)
)
SUM = SumStatement(
    session=bytes(16),
    configuration_hash=bytes(32),
    round=1,
    attempt=1,
    transcript=bytes(32),
    sum_hash=bytes(32),
    sum_tag=b"",
    model_before=bytes(32),
    model_after=bytes(32),
)
DOCUMENT = Path(__file__).parents[3] / "docs" / "sessions.md"

FROM_COORDINATOR: tuple[BaseModel, ...] = (
    m.SessionOffer(configuration=b"", signature=bytes(64), head=HEAD),
    m.HeldHead(held=()),
    m.SealedKey(session=bytes(16), key_index=0, sealed=b"", signature=bytes(64)),
    m.GroupRequest(),
    m.GroupPart(payload=b""),
    m.CatchUp(statement=SUM, signatures=(), model=b""),
    m.MissedSum(round=1, attempt=1, payload=b""),
    m.RoundStart(round=1, attempt=1, model_id=bytes(32), participants=parties.pack(range(3))),
    m.Aggregation(round=1, attempt=1, phase="share", payload=b""),
    m.RoundEnd(
        round=1,
        attempt=1,
        status="aborted",
        contributors=(),
        dropped=(),
        heads=(),
        countersignature=bytes(64),
    ),
    m.SessionEnd(key_seeds=(), rounds=b"", signature=bytes(64)),
    m.SessionClosed(
        statement=STATEMENT, signatures=(), missing=(), round=1, heads=(), countersignature=bytes(64)
    ),
    m.Standby(),
    m.Rehearse(configuration=b"", signature=bytes(64)),
    m.FinishedModel(configuration=b"", signature=bytes(64), end=b"", model=b"", group=b""),
    m.NoModel(reason="no_such_session"),
)
FROM_INSTITUTION: tuple[BaseModel, ...] = (
    m.Hello(name=NAME),
    m.ModelRequest(name=NAME),
    m.Activity(doing="preparing"),
    m.SessionAccept(configuration_hash=bytes(32), head=HEAD),
    m.SessionRefuse(reason="not_approved"),
    m.GroupOffer(payload=b""),
    m.GroupReady(signature=bytes(64)),
    m.RoundDecline(round=1, attempt=1, final=False, reason="no_space"),
    m.Aggregation(round=1, attempt=1, phase="share", payload=b""),
    m.SumVerified(statement=SUM, signature=bytes(64)),
    m.Done(bundle_hash=None, head=HEAD, signature=bytes(64)),
    m.Rehearsed(configuration_hash=bytes(32), reason=None),
)


def test_no_message_is_left_out() -> None:
    assert {message.kind for message in FROM_COORDINATOR} == set(m.FROM_COORDINATOR)
    assert {message.kind for message in FROM_INSTITUTION} == set(m.FROM_INSTITUTION)


@pytest.mark.parametrize("message", FROM_COORDINATOR, ids=lambda message: message.kind.replace(" ", "-"))
@pytest.mark.parametrize("state", client.State, ids=lambda state: state.name.lower())
def test_an_institution(state: client.State, message: m.TaggedMessage) -> None:
    machine = Federation(3).machine(NAME)
    machine._state = state
    taken: list[object] = []
    machine._transitions = MappingProxyType(
        {kind: lambda one: taken.append(one) or [] for kind in machine._transitions}
    )
    match client.TABLE[state].get(message.kind, client.Answer.REFUSED):
        case client.Answer.TAKEN:
            assert machine.receive(message.to_bytes()) == []
            assert taken == [message]
        case client.Answer.IGNORED:
            assert machine.receive(message.to_bytes()) == []
            assert taken == []
        case client.Answer.REFUSED:
            with pytest.raises(UnexpectedMessage, match="out of turn"):
                machine.receive(message.to_bytes())
            assert taken == []
    assert machine.state is state


@pytest.mark.parametrize("message", FROM_INSTITUTION, ids=lambda message: message.kind.replace(" ", "-"))
@pytest.mark.parametrize("presence", server.Presence, ids=lambda presence: presence.name.lower())
@pytest.mark.parametrize("state", server.State, ids=lambda state: state.name.lower())
def test_the_coordinator(
    state: server.State,
    presence: server.Presence,
    message: m.TaggedMessage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = Federation(3).coordinator
    session._state = state
    session._attendance.mark(NAME, presence)
    taken: list[object] = []
    monkeypatch.setattr(session, "_dispatch", lambda name, one, size: taken.append(one) or [])
    actions = session.receive(NAME, message.to_bytes())
    match server.TABLE[state, presence].get(message.kind, server.Answer.REFUSED):
        case server.Answer.TAKEN:
            assert (actions, taken) == ([], [message])
        case server.Answer.IGNORED:
            assert (actions, taken) == ([], [])
        case server.Answer.REFUSED:
            [line] = actions
            assert line.type == "refused"
            assert "out of turn" in line.body["detail"]
            assert taken == []
    assert session.state is state
    assert session._attendance.of(NAME) is presence


def rows(heading: str) -> dict[str, list[str]]:
    """Return a table of the document: first cell of a row to the others, as plain words."""
    text = DOCUMENT.read_text().split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [[re.sub(r"[`*]", "", cell).strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first: others for first, *others in cells[1:]}


def listed(kinds: dict[str, object], answer: object) -> str:
    return ", ".join(kind for kind in kinds if kinds[kind] is answer) or "-"


def test_the_document_shows_the_institutions_table() -> None:
    expected = {
        state.name: [
            listed(client.TABLE[state], client.Answer.TAKEN),
            listed(client.TABLE[state], client.Answer.IGNORED),
        ]
        for state in client.State
    }
    assert {name: cells[1:] for name, cells in rows("At an institution").items()} == expected


def test_the_document_shows_the_coordinators_table() -> None:
    shown = rows("At the coordinator")
    for (state, presence), kinds in server.TABLE.items():
        for kind, answer in kinds.items():
            where, whom, what = next(
                cells
                for row, cells in shown.items()
                if row.split(",")[0] == kind
                and state.name in cells[0].split(", ")
                and presence.name in cells[1].split(", ")
            )
            assert what == answer.value, (state, presence, kind, where, whom)
    cells = sum(
        len(where.split(", ")) * len(whom.split(", "))
        for where, whom, _ in rows("At the coordinator").values()
    )
    assert cells == sum(len(kinds) for kinds in server.TABLE.values())
