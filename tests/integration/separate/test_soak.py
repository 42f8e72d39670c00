"""The soak in small: real processes, a kill of the coordinator and one of two institutions, and judgement."""

from pathlib import Path

import pytest

from fedapt_client.training.kept_models import MODEL_FILE
from fedapt_crypto.roster import COORDINATOR
from tests.soak.consortium import Consortium, found_consortium
from tests.soak.judgement import entries, judge
from tests.soak.kills import Kill
from tests.soak.party import USED_FILE
from tests.soak.play import Play

pytestmark = [pytest.mark.integration, pytest.mark.slow]

KILLS = {(1, 1): Kill(None, 0, 0.0, 0.0), (2, 1): Kill(0, 0, 0.0, 0.0)}
"""Round and attempt to who is killed; nobody in the third, last round, which therefore completes."""


def test_kills_of_coordinator_and_institutions_and_a_judgement_that_bites(tmp_path: Path) -> None:
    consortium = found_consortium(tmp_path, 6, 3, gather_timeout_s=60.0)

    def plan(number: int, attempt: int) -> list[Kill]:
        return [KILLS[number, attempt]] if (number, attempt) in KILLS else []

    play = Play(consortium, 3, plan)
    play.run(120)
    assert play.faults == []
    assert play.killed == {COORDINATOR: 1, "groups": 1, "institutions": 2}
    assert len(entries(consortium.log(COORDINATOR), "session_resumed")) == 1
    judgement = judge(consortium)
    assert judgement.broken == []
    assert judgement.completed + judgement.given_up == 3
    last = entries(consortium.log(COORDINATOR), "round_ended")[-1]
    assert (last["round"], last["status"], len(last["contributors"])) == (3, "completed", 6)
    _falsify(consortium)
    broken = "\n".join(judge(consortium).broken)
    assert "clinic-1's ledger records less than it used" in broken
    assert "clinic-2 does not hold the finished model" in broken
    assert "round 3: clinic-3 has not released this attempt's update" in broken
    coordinator = consortium.log(COORDINATOR)
    text = coordinator.read_text()
    coordinator.write_text(text.replace('"attempt":1,', '"attempt":2,'))
    assert "is out of order" in "\n".join(judge(consortium).broken)
    coordinator.write_text(text.replace('"clinic-1","clinic-2"', '"clinic-2"'))
    assert "the model is not start plus mean" in "\n".join(judge(consortium).broken)


def _falsify(consortium: Consortium) -> None:
    """Make one thing wrong at each of three institutions."""
    with (consortium.party("clinic-1") / USED_FILE).open("a") as used:
        used.write("4 1\n")
    model = consortium.party("clinic-2") / MODEL_FILE
    data = model.read_bytes()
    model.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    log = consortium.log("clinic-3")
    log.write_bytes(log.read_bytes().replace(b'"type":"released"', b'"type":"lost"'))
