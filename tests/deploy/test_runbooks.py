"""The commands of the runbooks, each as it is written: by root, a service's user, and sudo between them."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.deploy import machine
from tests.deploy.walkthrough import ROOT, Shell, Step, agree, follow_in, steps

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]
REASON = machine.why_not()

PROGRAM = "/opt/fedapt-secure/bin/fedapt-secure"
OTHERS = f"cd ~/others && {PROGRAM} server"
OPERATOR = f"""
mkdir -p ~/others && ({OTHERS} init --dir coordinator --address coordinator.example.org)
for n in 1 2; do
    ({OTHERS} invite clinic-$n --domain scanner-a --dir coordinator) > ~/clinic-$n.join
done
for n in 1 2 3; do
    mkdir -p /srv/images/a /srv/images/b; echo $n > /srv/images/a/$n.png; echo $n > /srv/images/b/$n.png
done
({OTHERS} run --dir coordinator 2> log.txt) &
until grep -q 'listening for rounds' ~/others/log.txt; do sleep 0.2; done
"""
"""The coordinator's operator, who is somebody else: here a folder of root's."""
CLIENT: Mapping[str, str] = {
    "institution roster approve": f"READ_OUT=$({OTHERS} roster --dir coordinator"
    " | sed -n 's/^roster .* fingerprint //p')",
    "institution install-cert": f"({OTHERS} sign ~/clinic-1.request --answer ~/clinic-1.answer"
    " --dir coordinator)",
}
SERVER: Mapping[str, str] = {
    "coordinator sign": "(umask 077; coordinator invite clinic-1 --domain scanner-a > ~/clinic-1.join)"
    f" && {PROGRAM} client csr - --request ~/clinic-1.request --dir ~/clinic-1 < ~/clinic-1.join"
}
"""What other people do before a command that begins so."""


def look(shell: Shell, room: str) -> None:
    """See that what is left is the service's alone, and that mistakes are one line that helps."""
    folder, user = f"/var/lib/fedapt-{room}", f"fedapt-{room}"
    assert shell.run(f"stat -c '%U %a' {folder}") == (0, [f"{user} 700"])
    assert shell.run(f"find {folder} ! -name policy.yaml -perm /077") == (0, [])
    assert shell.run(f"find {folder} ! -user {user}") == (0, [])
    status, said = shell.run(f"{PROGRAM} {room} passwd --remove --dir {folder}")
    assert (status, len(said)) == (2, 1)
    assert f"belongs to the user '{user}'" in said[0]
    status, said = shell.run(f"sudo -u {user} {PROGRAM} {room} passwd --remove --dir {folder}")
    assert (status, len(said)) == (2, 1)
    assert "is protected by a passphrase" in said[0]
    assert shell.run(f"sudo -u {user} ls /root")[0] == 2, "and that user sees nothing of root's"


def follow(room: str, here: machine.Machine, before: str, meanwhile: Mapping[str, str]) -> list[Step]:
    """Follow a page, look at what is left, and return what was done."""
    here.prepare()
    shell = here.shell()
    try:
        status, said = shell.run(before)
        assert status == 0, said
        # People type what they hear; here it is heard from the coordinator.
        shell.names = {"WHAT THE OTHERS READ OUT": "$READ_OUT"}
        done = follow_in(shell, ROOT / room / "RUNBOOK.md", meanwhile)
        look(shell, room)
        for command in {"client": ("csr --request ~/x", "install-cert ~/x"), "server": ("sign ~/x",)}[room]:
            status, said = shell.run(f"(umask 077; echo > ~/x); {NAMES[room]} {command}")
            assert (status, len(said)) == (2, 1)
            assert f"Permission denied; for the user 'fedapt-{room}' give - " in said[0], said
        shell.run(f"systemctl stop fedapt-{room}")
    finally:
        here.kill()
        shell.close()
    return done


NAMES = {"client": "institution", "server": "coordinator"}


def check(done: list[Step], room: str, here: machine.Machine) -> str:
    """Every command was done and showed what the page shows; return the service's journal."""
    assert [step.command for step in done] == [step.command for step in steps(ROOT / room / "RUNBOOK.md")]
    wrong = [(s.line + 1, s.command, s.shown, s.printed) for s in done if not agree(s.shown, s.printed)]
    assert not wrong
    journal = here.journal(f"fedapt-{room}")
    assert "Traceback" not in journal
    return journal


@pytest.mark.skipif(REASON is not None, reason=str(REASON))
class TestTheRunbooks:
    @pytest.mark.slow  # a minute of processor time: each command is a process of the other user's
    def test_of_an_institution(self, tmp_path: Path) -> None:
        here = machine.Machine(tmp_path / "machine")
        journal = check(follow("client", here, OPERATOR, CLIENT), "client", here)
        assert "connected to the coordinator" in journal

    @pytest.mark.slow  # half a minute: each command is a process; the walk through types most of them
    def test_of_the_coordinator(self, tmp_path: Path) -> None:
        here = machine.Machine(tmp_path / "machine")
        journal = check(follow("server", here, "true", SERVER), "server", here)
        assert "listening for rounds" in journal


@pytest.mark.parametrize("room", ["client", "server"])
def test_no_command_of_a_page_is_left_out(room: str) -> None:
    """Every block that has commands is one that is followed."""
    text = (ROOT / room / "RUNBOOK.md").read_text()
    blocks = text.split("```")[1::2]
    assert all(block.startswith("console\n") for block in blocks)


@pytest.mark.parametrize("room", ["client", "server"])
def test_nothing_secret_stands_on_a_command_line_and_nobody_agrees_with_oneself(room: str) -> None:
    for step in steps(ROOT / room / "RUNBOOK.md"):
        for secret in ("$(cat", "FEDAPT_PASSPHRASE=", "--passphrase "):
            assert secret not in step.command
        assert "$(institution roster" not in step.command
