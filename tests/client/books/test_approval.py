"""What counts as an approval of a session, and that a restart does not ask again."""

import json
from pathlib import Path

import pytest

from fedapt_client.books.approval import APPROVALS_FILE, Approvals, Declined, NotApproved
from fedapt_crypto.errors import InvalidInput
from fedapt_secure.protocol.session import SessionConfiguration
from tests.protocol.federation import Federation

ONE = Federation(3).configuration
OTHER = Federation(3).configuration


def asker(answer: bool, asked: list[SessionConfiguration]):
    return lambda configuration: bool(asked.append(configuration)) or answer


def test_the_whole_hash_of_exactly_this_configuration(tmp_path: Path) -> None:
    approved = Approvals(tmp_path, given=ONE.hash.hex())
    approved.check(ONE, unattended=False)
    with pytest.raises(NotApproved, match=f"--approve {OTHER.hash.hex()}'") as caught:
        approved.check(OTHER, unattended=False)
    assert ONE.hash.hex() in str(caught.value), "the one given is named too"
    for part in (ONE.hash.hex()[:16], ONE.hash.hex()[:-1]):
        with pytest.raises(NotApproved):
            Approvals(tmp_path / "other", given=part).check(ONE, unattended=False)


def test_it_is_kept_for_its_owner_only_and_nobody_is_asked_again(tmp_path: Path) -> None:
    asked: list[SessionConfiguration] = []
    Approvals(tmp_path, ask=asker(True, asked)).check(ONE, unattended=False)
    assert asked == [ONE]
    assert (tmp_path / APPROVALS_FILE).stat().st_mode & 0o777 == 0o600
    Approvals(tmp_path).check(ONE, unattended=False)
    Approvals(tmp_path, given=OTHER.hash.hex()).check(OTHER, unattended=False)
    Approvals(tmp_path).check(ONE, unattended=False)
    entries = json.loads((tmp_path / APPROVALS_FILE).read_text())["approved"]
    assert [entry["configuration"] for entry in entries] == [ONE.hash.hex(), OTHER.hash.hex()]


def test_a_no_is_a_refusal_and_is_not_kept(tmp_path: Path) -> None:
    asked: list[SessionConfiguration] = []
    approvals = Approvals(tmp_path, ask=asker(False, asked))
    for _ in range(2):
        with pytest.raises(Declined):
            approvals.check(ONE, unattended=False)
    assert asked == [ONE, ONE]
    assert not (tmp_path / APPROVALS_FILE).exists()


def test_nobody_there_means_shown_and_not_refused(tmp_path: Path) -> None:
    shown: list[SessionConfiguration] = []
    with pytest.raises(NotApproved, match=f"client run --approve {ONE.hash.hex()}'"):
        Approvals(tmp_path, show=shown.append).check(ONE, unattended=False)
    assert shown == [ONE]
    assert not issubclass(NotApproved, Declined)


def test_unattended_needs_nobody_but_a_hash_on_the_command_line_counts_more(tmp_path: Path) -> None:
    Approvals(tmp_path).check(ONE, unattended=True)
    assert not (tmp_path / APPROVALS_FILE).exists(), "were the policy changed, nobody has approved it"
    with pytest.raises(NotApproved):
        Approvals(tmp_path, given=OTHER.hash.hex()).check(ONE, unattended=True)


@pytest.mark.parametrize(
    "content", ["", "[]", '{"approved": [{"configuration": "00"}]}', '{"approved": [1]}']
)
def test_a_broken_record_is_not_guessed(tmp_path: Path, content: str) -> None:
    path = tmp_path / APPROVALS_FILE
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(InvalidInput, match="delete it, and approve the session again"):
        Approvals(tmp_path).check(ONE, unattended=True)
    path.chmod(0o644)
    with pytest.raises(InvalidInput, match="chmod 600"):
        Approvals(tmp_path).check(ONE, unattended=True)
