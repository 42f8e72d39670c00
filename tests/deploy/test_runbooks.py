"""The commands of the runbooks, run; what needs a real machine (users, services) is named and left out."""

from pathlib import Path

import pytest

from tests.deploy.walkthrough import ROOT, agree, follow

LEFT_OUT = """
useradd() { :; }; chown() { :; }; systemctl() { :; }
sudo() { [[ $1 = --preserve-env=* ]] && shift; [ "$1" = -u ] && shift 2; "$@"; }
install() {
    local given=()
    while [ $# -gt 0 ]; do case $1 in -o|-g) shift 2;; *) given+=("$1"); shift;; esac; done
    command install "${given[@]}"
}
"""
COORDINATOR = """
fedapt-secure server init --dir coordinator --address localhost --port 8443 --enrolment-port 8444
for n in 1 2; do
    fedapt-secure server invite clinic-$n --domain scanner-a --dir coordinator > operator/clinic-$n.join
done
mkdir -p images/a images/b; for n in 1 2 3; do echo $n > images/a/$n.png; echo $n > images/b/$n.png; done
fedapt-secure server enroll --dir coordinator 2> enrolment.log &
until grep -q enrolment_listening enrolment.log; do sleep 0.2; done
"""


def names(folder: Path) -> dict[str, str]:
    """Where the machine's folders are here."""
    return {
        "/usr/local/share/doc/fedapt-secure": str(ROOT),
        "/opt/fedapt-secure/bin/": f"{folder}/.bin/",
        "/var/lib/": f"{folder}/lib/",
        "~/": f"{folder}/operator/",
        "/etc/": f"{folder}/etc/",
        "/srv/images": f"{folder}/images",
    }


@pytest.mark.integration
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("room", "before"), [("server", ""), ("client", COORDINATOR)])
def test_a_runbook_works(room: str, before: str, tmp_path: Path) -> None:
    for name in ("lib", "operator", "etc/systemd/system"):
        (tmp_path / name).mkdir(parents=True)
    done = follow(ROOT / room / "RUNBOOK.md", tmp_path, names(tmp_path), LEFT_OUT + before)
    assert len(done) > 15
    wrong = [
        (s.line + 1, s.command, s.shown, s.printed) for s in done if s.shown and not agree(s.shown, s.printed)
    ]
    assert not wrong
