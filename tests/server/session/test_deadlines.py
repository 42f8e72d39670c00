"""Deadlines follow from what is sent: no message takes more than what the coordinator counts on."""

import pytest

from fedapt_crypto.encoding import decode_one_of
from fedapt_crypto.secagg.scheme import Phase
from fedapt_secure.protocol import messages as m
from fedapt_server.session.actions import SendTo, SetTimer
from fedapt_server.session.deadlines import (
    answer_bytes,
    gathering_s,
    phase_s,
    slow_rounds,
    transfer_s,
)
from tests.protocol.federation import Federation

MANY = {"text_width": 700, "feature_size": 300, "context_tokens": 8}
SCHEMES = [("masking", 3), ("masking", 12), ("ckks", 3), ("ckks", 6), ("none", 2)]


def requirements_of(scheme: str):
    from fedapt_client.session.requirements import Requirements  # noqa: PLC0415

    return Requirements(differential_privacy=True, aggregation=(scheme,), minimum_participants=2)


class Watched(Federation):
    """Notes the size of everything that is sent, and which timers are set."""

    def __init__(self, n: int, **options: object) -> None:
        super().__init__(n, **options)
        self.up: dict[Phase, int] = {}
        self.timers: list[float] = []
        receive = self.coordinator.receive

        def weighed(name: str, data: bytes) -> list:
            message = decode_one_of(data, m.FROM_INSTITUTION, max_bytes=m.MAX_FRAME_BYTES)
            if isinstance(message, m.Aggregation):
                phase = Phase(message.phase)
                self.up[phase] = max(self.up.get(phase, 0), len(data))
            return receive(name, data)

        self.coordinator.receive = weighed

    def _server(self, actions: list) -> None:
        self.timers += [one.seconds for one in actions if isinstance(one, SetTimer) and one.seconds]
        super()._server(actions)


@pytest.mark.parametrize(("scheme", "institutions"), SCHEMES)
def test_no_answer_is_larger_than_what_is_allowed_for(scheme: str, institutions: int) -> None:
    federation = Watched(
        institutions, secure_aggregation=scheme, rounds=1, requirements=requirements_of(scheme), **MANY
    )
    federation.run()
    assert federation.ended
    assert federation.up
    for phase, size in federation.up.items():
        allowed = answer_bytes(federation.configuration, phase)
        assert size <= allowed, phase
        assert allowed <= 3 * size + (64 << 10), "not so much more that nobody is ever late"


def test_every_deadline_has_the_time_that_its_messages_take() -> None:
    slow, fast = (Watched(4, rounds=2, minimum_rate_kbit_s=rate, **MANY) for rate in (32, 1e7))
    for federation in (slow, fast):
        federation.run()
    assert len(slow.timers) == len(fast.timers)
    update_s = 4 * slow.plan.shape.size * 8 / 32_000
    base = {slow.plan.round_timeout_s, slow.plan.phase_timeout_s, slow.plan.gather_timeout_s}
    for with_time, without in zip(slow.timers, fast.timers, strict=True):
        nearest = min(base, key=lambda seconds: abs(seconds - without))
        assert nearest < without < nearest + 0.1
        assert with_time > without
    # The model down, the masked update up, the finished model down.
    assert sum(a - b > update_s for a, b in zip(slow.timers, fast.timers, strict=True)) >= 2 * 2 + 1


def test_a_phase_waits_for_the_one_who_gets_most() -> None:
    configuration = Federation(4, minimum_rate_kbit_s=80).configuration
    sent = [
        SendTo("clinic-1", bytes(100_000)),
        SendTo("clinic-2", bytes(50_000)),
        SendTo("clinic-2", bytes(70_000)),
    ]
    nothing = phase_s(configuration, 5.0, [], Phase.CONSISTENCY)
    assert phase_s(configuration, 5.0, sent, Phase.CONSISTENCY) == pytest.approx(nothing + 12.0)
    assert transfer_s(configuration, 10_000) == 1.0
    assert nothing > 5.0


def test_gathering_waits_for_the_session_itself_and_what_was_missed() -> None:
    configuration = Federation(4, minimum_rate_kbit_s=80).configuration
    size = len(configuration.to_bytes())
    usual = gathering_s(configuration, 5.0, first=False, missed_bytes=0)
    assert usual > 5.0 + size / 10_000
    assert gathering_s(configuration, 5.0, first=False, missed_bytes=10_000) == pytest.approx(usual + 1.0)


def test_people_are_told_where_sending_takes_longer_than_training() -> None:
    """474,048 values, the image tower of the shipped model, each way on 128 kbit/s."""
    tower = {
        "method": "fedavg",
        "tower_values": 474_048,
        "differential_privacy": False,
        "learning_rate": 0.01,
    }
    assert slow_rounds(Federation(3, **tower).configuration) is None
    said = slow_rounds(Federation(3, round_timeout_s=60.0, **tower).configuration)
    assert said is not None
    assert said.startswith("a round moves 2.1 MB to each institution and 2.1 MB back: on a line of")
    assert "minimum_rate_kbit_s 128 that takes 263 s, more than the round_timeout_s of 60 s" in said
    assert (
        slow_rounds(Federation(3, minimum_rate_kbit_s=2000, round_timeout_s=60.0, **tower).configuration)
        is None
    )
