"""Everything that somebody with a log in hand could do to it, and what the auditor says of it.

Each case names what is done, to whose log, and what must be found: party, kind and, where one line is meant,
the line. The forger of the last class holds the party's own key; a lone log cannot show what it does, a
second party's log or the coordinator's does.
"""

import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.identity import Identity
from fedapt_secure.audit.checks.recompute import recompute
from fedapt_secure.audit.findings import Finding, Kind, Verdict
from fedapt_secure.audit.judgement import Judgement, audit
from fedapt_secure.log.line import LogHead
from tests.audit.harness import Body, Federation, Log, Terms, federation, forge, read_lines, write_lines

VICTIM = "clinic-2"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Federation, Path]:
    """Two sessions of three institutions, logs in one piece."""
    made = federation(3, sessions=2, rotate=False)
    return made, made.save(tmp_path_factory.mktemp("made"))


@pytest.fixture
def world(made: tuple[Federation, Path], tmp_path: Path) -> Federation:
    shutil.copytree(made[1], tmp_path, dirs_exist_ok=True)
    return made[0]


@pytest.fixture
def log(world: Federation, tmp_path: Path) -> Path:
    return tmp_path / "logs" / f"{VICTIM}.jsonl"


def findings(judgement: Judgement, party: str, kind: Kind) -> list[Finding]:
    return [one for one in judgement.findings if (one.party, one.kind) == (party, kind)]


def judged(folder: Path, *, trust: bool = True) -> Judgement:
    return audit([folder], folder / "roster.json" if trust else None)


def lone(log: Path) -> Judgement:
    return audit([log], log.parent.parent / "roster.json")


def line_of(log: Path, type: str, nth: int = 0) -> int:
    """Return the index of the n-th line of a type."""
    return [i for i, line in enumerate(read_lines(log)) if f'"type":"{type}"'.encode() in line][nth]


class TestUntouched:
    @pytest.mark.parametrize("trust", [True, False])
    def test_verified(self, world: Federation, tmp_path: Path, trust: bool) -> None:
        judgement = judged(tmp_path, trust=trust)
        assert judgement.verdict is Verdict.VERIFIED
        assert judgement.findings == ()
        assert judgement.trusted is trust
        assert not judgement.self_attested

    @pytest.mark.parametrize("rotations", [1, 2])
    def test_rotated(self, tmp_path: Path, rotations: int) -> None:
        made = Federation(3)
        for number in range(rotations + 1):
            made.session(number)
            if number < rotations:
                for one in made.logs.values():
                    one.rotate()
        made.save(tmp_path)
        assert judged(tmp_path).verdict is Verdict.VERIFIED
        assert len(list((tmp_path / "logs").iterdir())) == 4 * (rotations + 1)
        one = audit([tmp_path / "logs" / f"{VICTIM}.0000000000.jsonl"])
        assert one.verdict is Verdict.VERIFIED
        assert len(one.parties[0].logs[0].files) == rotations + 1

    def test_each_log_alone(self, world: Federation, tmp_path: Path) -> None:
        for name in world.parties:
            judgement = lone(tmp_path / "logs" / f"{name}.jsonl")
            assert judgement.verdict is Verdict.VERIFIED
            (reason,) = judgement.self_attested
            seen = name != "coordinator"  # it countersigned the institutions' heads
            assert ("nobody else" in reason) is not seen

    def test_an_institution_that_drops_and_an_aborted_round(self, tmp_path: Path) -> None:
        made = Federation(4)
        made.session(1, 4, absent={2: "clinic-3"}, aborted=[3])
        made.save(tmp_path)
        judgement = judged(tmp_path)
        assert judgement.verdict is Verdict.VERIFIED, judgement.findings
        assert [column.completed for column in judgement.participation.columns] == [1, 1, 0, 1]
        assert judgement.participation.columns[1].dropped == {"clinic-3": 1}

    def test_a_session_that_still_runs_is_open(self, tmp_path: Path) -> None:
        made = Federation(3)
        made.session(1)
        made.session(2, close=False)
        made.save(tmp_path)
        judgement = judged(tmp_path)
        assert judgement.verdict is Verdict.OPEN
        assert {(one.party, one.kind) for one in judgement.findings} == {
            (party, Kind.NOT_CLOSED) for party in made.parties
        }


class TestWithoutTheKey:
    """A forger without the party's key: shown by the log alone."""

    @pytest.mark.parametrize("where", ["first", "middle", "last"])
    @pytest.mark.parametrize("field", ["seq", "time", "type", "body", "prev", "sig", "end"])
    def test_a_flipped_byte(self, log: Path, where: str, field: str) -> None:
        lines = read_lines(log)
        index = {"first": 0, "middle": len(lines) // 2, "last": len(lines) - 1}[where]
        line = bytearray(lines[index])
        position = {
            "seq": line.index(b'"seq":') + 6,
            "time": line.index(b"T") + 2,
            "type": line.index(b'"type":"') + 8,
            "body": line.index(b'"body":{') + 10,
            "prev": line.index(b'"prev":"') + 20,
            "sig": len(line) - 20,
            "end": len(line) - 1,
        }[field]
        line[position] ^= 1
        lines[index] = bytes(line)
        write_lines(log, lines)
        judgement = lone(log)
        assert judgement.verdict is Verdict.TAMPERED
        first = judgement.findings[0]
        assert first.kind in {Kind.NOT_A_LINE, Kind.SIGNATURE, Kind.HEADER}
        assert (first.file, first.line) == (log.name, index + 1)
        assert first.party == VICTIM

    @pytest.mark.parametrize("index", [0, 1, 9, -2])
    def test_a_deleted_line(self, log: Path, index: int) -> None:
        lines = read_lines(log)
        index %= len(lines)
        del lines[index]
        write_lines(log, lines)
        judgement = lone(log)
        assert judgement.verdict is Verdict.TAMPERED
        kinds = {(one.kind, one.line) for one in judgement.findings}
        assert (Kind.SEQUENCE if index else Kind.HEADER, index + 1) in kinds

    def test_reordered_lines(self, log: Path) -> None:
        lines = read_lines(log)
        lines[5], lines[6] = lines[6], lines[5]
        write_lines(log, lines)
        assert {one.line for one in findings(lone(log), VICTIM, Kind.SEQUENCE)} == {6, 7, 8}

    def test_a_line_twice(self, log: Path) -> None:
        lines = read_lines(log)
        write_lines(log, [*lines[:5], lines[4], *lines[5:]])
        assert findings(lone(log), VICTIM, Kind.SEQUENCE)[0].line == 6

    def test_a_line_of_another_party_put_in(self, log: Path) -> None:
        lines, others = read_lines(log), read_lines(log.with_name("clinic-1.jsonl"))
        lines[4] = others[4]
        write_lines(log, lines)
        assert findings(lone(log), VICTIM, Kind.SIGNATURE)[0].line == 5

    def test_a_line_made_up(self, log: Path, world: Federation) -> None:
        forger = Log(VICTIM, Identity.generate(), world.clock)
        lines = read_lines(log)
        write_lines(log, [*lines, forger.segments[0][0]])
        assert findings(lone(log), VICTIM, Kind.SIGNATURE)[0].line == len(lines) + 1

    @pytest.mark.parametrize("cut", [1, 2, 100])
    def test_a_cut_line(self, log: Path, cut: int) -> None:
        log.write_bytes(log.read_bytes()[:-cut])
        judgement = lone(log)
        assert judgement.verdict is Verdict.TAMPERED
        assert judgement.findings[0].kind is Kind.CUT_OFF

    @pytest.mark.parametrize("index", [0, 3])
    def test_an_empty_line(self, log: Path, index: int) -> None:
        lines = read_lines(log)
        write_lines(log, [*lines[:index], b"", *lines[index:]])
        assert findings(lone(log), VICTIM, Kind.NOT_A_LINE)[0].line == index + 1

    def test_signed_again_with_another_key(self, log: Path) -> None:
        forge(log, Identity.generate(), lambda entries: entries)
        judgement = lone(log)
        assert judgement.verdict is Verdict.TAMPERED
        assert findings(judgement, VICTIM, Kind.SIGNATURE)[0].line == 1

    def test_made_anew_with_another_key_named_in_it(self, log: Path, tmp_path: Path) -> None:
        stranger = Identity.generate()

        def rename(entries: list[tuple[str, Body]]) -> list[tuple[str, Body]]:
            entries[0][1]["identity"] = stranger.public_key.hex()
            return entries

        forge(log, stranger, rename)
        judgement = lone(log)
        assert judgement.verdict is Verdict.TAMPERED
        assert findings(judgement, VICTIM, Kind.IDENTITY)
        (tmp_path / "roster.json").unlink()
        without = judged(tmp_path, trust=False)
        assert without.verdict is Verdict.TAMPERED, "the others' logs hold heads of the real one"
        assert findings(without, VICTIM, Kind.IDENTITY)

    def test_a_stranger_to_the_roster(self, tmp_path: Path, world: Federation) -> None:
        other = federation(4, sessions=1, rotate=False)
        other.logs["clinic-4"].save(tmp_path / "logs")
        judgement = judged(tmp_path)
        assert judgement.verdict is Verdict.TAMPERED
        assert "roster" in findings(judgement, "clinic-4", Kind.IDENTITY)[0].detail

    def test_two_logs_swapped(self, log: Path, tmp_path: Path) -> None:
        other = log.with_name("clinic-1.jsonl")
        mine, theirs = log.read_bytes(), other.read_bytes()
        log.write_bytes(theirs)
        other.write_bytes(mine)
        judgement = judged(tmp_path)
        assert judgement.verdict is Verdict.TAMPERED
        for party in (VICTIM, "clinic-1"):
            assert findings(judgement, party, Kind.IDENTITY)

    @pytest.mark.parametrize("rotated_away", [0, 1])
    def test_a_segment_taken_away(self, tmp_path: Path, rotated_away: int) -> None:
        made = Federation(3)
        for number in range(3):
            made.session(number)
            if number < 2:
                made.logs[VICTIM].rotate()
        made.save(tmp_path)
        names = sorted((tmp_path / "logs").glob(f"{VICTIM}.*.jsonl"))
        names[rotated_away].unlink()
        judgement = judged(tmp_path)
        if rotated_away == 0:
            assert judgement.verdict is Verdict.VERIFIED, "the first part may be archived elsewhere"
            assert any("archived" in item for item in judgement.unchecked)
        else:
            assert findings(judgement, VICTIM, Kind.SEQUENCE)

    def test_segments_of_two_parties_mixed(self, tmp_path: Path) -> None:
        federation(3).save(tmp_path)
        (victim,) = (tmp_path / "logs").glob(f"{VICTIM}.*.jsonl")
        (other,) = (tmp_path / "logs").glob("clinic-1.*.jsonl")
        victim.write_bytes(other.read_bytes())
        assert judged(tmp_path).verdict is Verdict.TAMPERED


class TestTheEnd:
    """Lines taken off the end: no line is wrong, so it needs a close record or somebody who saw more."""

    @pytest.mark.parametrize("keep", ["close", "session", "half"])
    def test_cut_at_a_line(self, log: Path, tmp_path: Path, keep: str) -> None:
        lines = read_lines(log)
        end = {
            "close": line_of(log, "session_closed", 1),
            "session": line_of(log, "session_accepted", 1),
            "half": line_of(log, "round_joined", 4),
        }[keep]
        write_lines(log, lines[:end])
        alone, together = lone(log), judged(tmp_path)
        if keep == "session":
            assert alone.verdict is Verdict.VERIFIED, "a lone log cannot show that a whole session is missing"
        else:
            assert alone.verdict is Verdict.OPEN
        if keep == "close":
            assert together.verdict is Verdict.OPEN, "nobody has seen the lines after the last head"
            assert "another log holds" in findings(together, VICTIM, Kind.NOT_CLOSED)[0].detail
        else:
            found = findings(together, VICTIM, Kind.ROLLED_BACK)[0]
            assert together.verdict is Verdict.TAMPERED
            assert (found.file, found.line) == (log.name, end)

    def test_an_old_log_played_again(self, log: Path, tmp_path: Path) -> None:
        old = federation(3, sessions=1, rotate=False)
        old.save(tmp_path / "old")
        log.write_bytes((tmp_path / "old" / "logs" / log.name).read_bytes())
        assert lone(log).verdict is Verdict.VERIFIED
        judgement = judged(tmp_path)
        assert judgement.verdict is Verdict.TAMPERED
        assert findings(judgement, VICTIM, Kind.ROLLED_BACK)
        assert findings(judgement, VICTIM, Kind.MISSING_SESSION)

    def test_the_coordinator_rolled_back(self, tmp_path: Path, world: Federation) -> None:
        log = tmp_path / "logs" / "coordinator.jsonl"
        lines = read_lines(log)
        write_lines(log, lines[: line_of(log, "session_started", 1)])
        judgement = judged(tmp_path)
        assert judgement.verdict is Verdict.TAMPERED
        assert findings(judgement, "coordinator", Kind.ROLLED_BACK)


def change(type: str, field: str, value: object, nth: int = 0) -> Callable[..., list[tuple[str, Body]]]:
    def edit(entries: list[tuple[str, Body]]) -> list[tuple[str, Body]]:
        body = [body for one, body in entries if one == type][nth]
        target = body
        *path, last = field.split(".")
        for part in path:
            target = target[part]
        assert target[last] != value
        target[last] = value
        return entries

    return edit


def drop(type: str, nth: int = 0) -> Callable[..., list[tuple[str, Body]]]:
    def edit(entries: list[tuple[str, Body]]) -> list[tuple[str, Body]]:
        indices = [i for i, (one, _) in enumerate(entries) if one == type]
        return [entry for i, entry in enumerate(entries) if i != indices[nth]]

    return edit


def without_witnesses(entries: list[tuple[str, Body]]) -> list[tuple[str, Body]]:
    return [entry for entry in entries if entry[0] != "witnessed"]


EDITS = {
    "more noise than there was": change("session_accepted", "privacy.noise_multiplier", 9.5),
    "less noise": change("session_accepted", "privacy.noise_multiplier", 1.1),
    "a spend with less epsilon": change("spend", "epsilon", 0.5, 2),
    "a spend less": drop("spend", 1),
    "a release less": drop("released", 1),
    "a session's plan less": drop("session_accepted", 0),
    "a policy less": drop("policy"),
    "a softer policy": change("policy", "max_epsilon", 500.0),
    "a round's end less": drop("round_ended", 0),
    "nothing at all": lambda entries: entries,
    "another time of everything": lambda entries: entries[:1] + entries,
}


class TestWithTheKey:
    """The strongest forger: the party itself, with its own key, chaining and signing everything again."""

    @pytest.mark.parametrize("name", EDITS)
    def test_others_hold_heads_of_the_real_log(
        self, log: Path, tmp_path: Path, world: Federation, name: str
    ) -> None:
        before = read_lines(log)
        forge(log, world.identities[VICTIM], EDITS[name])
        judgement = judged(tmp_path)
        if name == "nothing at all":
            assert read_lines(log) == before, "the same log, to the byte: Ed25519 is deterministic"
            assert judgement.verdict is Verdict.VERIFIED
            return
        assert judgement.verdict is Verdict.TAMPERED
        found = findings(judgement, VICTIM, Kind.REWRITTEN)[0]
        assert found.file == log.name
        assert found.line is not None
        assert "head" in found.detail
        assert judged(tmp_path, trust=False).verdict is Verdict.TAMPERED

    @pytest.mark.parametrize("name", sorted(EDITS.keys() - {"nothing at all"}))
    def test_one_other_party_is_enough(self, log: Path, tmp_path: Path, world: Federation, name: str) -> None:
        forge(log, world.identities[VICTIM], EDITS[name])
        paths = [log, log.with_name("clinic-1.jsonl")]
        assert findings(audit(paths, tmp_path / "roster.json"), VICTIM, Kind.REWRITTEN)
        assert findings(audit(paths), VICTIM, Kind.REWRITTEN)

    def test_under_a_new_log_identifier(self, log: Path, tmp_path: Path, world: Federation) -> None:
        def edit(entries: list[tuple[str, Body]]) -> list[tuple[str, Body]]:
            entries[0][1]["log"] = "00" * 16
            return without_witnesses(entries)

        forge(log, world.identities[VICTIM], edit)
        assert lone(log).verdict is Verdict.VERIFIED, "a lone log cannot show it"
        judgement = judged(tmp_path)
        assert judgement.verdict is Verdict.TAMPERED
        assert findings(judgement, VICTIM, Kind.MISSING_LOG)

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("more noise than there was", Kind.PLAN),
            ("less noise", Kind.UNDERSTATED),
            ("a spend less", Kind.RELEASE),
            ("a session's plan less", Kind.PLAN),
            ("a release less", Kind.CONTRIBUTION),
        ],
    )
    def test_what_a_lone_log_shows_even_so(self, log: Path, world: Federation, name: str, kind: Kind) -> None:
        """It contradicts itself: a forger has to change more than one line."""
        forge(log, world.identities[VICTIM], lambda entries: without_witnesses(EDITS[name](entries)))
        judgement = lone(log)
        assert judgement.verdict in {Verdict.VIOLATED, Verdict.TAMPERED}
        assert findings(judgement, VICTIM, kind)

    def test_what_a_lone_log_cannot_show(self, log: Path, tmp_path: Path, world: Federation) -> None:
        """Less privacy spent than there was, told consistently, with no witness left in it."""

        def less(rate: float, steps: int, delta: float) -> float:
            return recompute({(rate, 4.0): steps}, delta).epsilon + 0.01

        def edit(entries: list[tuple[str, Body]]) -> list[tuple[str, Body]]:
            kept = without_witnesses(entries)
            for type, body in kept:
                if type == "session_accepted":
                    plan = body["privacy"]
                    planned = less(plan["sample_rate"], plan["max_steps"], plan["delta"])
                    body["privacy"] = plan | {"noise_multiplier": 4.0, "epsilon_planned": planned}
                    body["privacy"]["spent_before"] = plan["spent_before"] | {
                        "epsilon": planned * plan["spent_before"]["sessions"]
                    }
                elif type == "spend":
                    spent = less(body["sample_rate"], body["total_steps"], body["delta"])
                    body |= {"noise_multiplier": 4.0, "epsilon": spent}
            return kept

        forge(log, world.identities[VICTIM], edit)
        alone = lone(log)
        assert alone.verdict is Verdict.VERIFIED
        assert alone.self_attested == (
            "only one party's log was given, and nobody else is known to have seen it",
        )
        together = judged(tmp_path)
        assert together.verdict is Verdict.TAMPERED
        assert findings(together, VICTIM, Kind.REWRITTEN)

    def test_its_own_witness_lines_stand_against_it(self, log: Path, world: Federation) -> None:
        """With them left in, even a lone log shows it: the coordinator countersigned its heads."""
        forge(log, world.identities[VICTIM], change("policy", "max_epsilon", 500.0))
        assert findings(lone(log), VICTIM, Kind.REWRITTEN)

    def test_heads_made_up_for_another_party(self, log: Path, tmp_path: Path, world: Federation) -> None:
        def edit(entries: list[tuple[str, Body]]) -> list[tuple[str, Body]]:
            witnessed = next(body for type, body in entries if type == "witnessed")
            head = next(head for head in witnessed["heads"] if head["party"] == "clinic-1")
            head["hash"] = "11" * 32
            return entries

        forge(log, world.identities[VICTIM], edit)
        judgement = judged(tmp_path)
        assert findings(judgement, VICTIM, Kind.HEAD_SIGNATURE)
        assert not [one for one in judgement.findings if one.party == "clinic-1"]

    def test_the_coordinator_lies_about_contributors(self, tmp_path: Path, world: Federation) -> None:
        log = tmp_path / "logs" / "coordinator.jsonl"
        edit = change("round_ended", "contributors", ["clinic-1", "clinic-3"])
        forge(log, world.identities["coordinator"], edit)
        judgement = judged(tmp_path)
        found = findings(judgement, "coordinator", Kind.CONTRIBUTION)
        assert found
        assert found[0].line == line_of(log, "round_ended") + 1

    @pytest.mark.parametrize(("field", "kind"), [("transcript", Kind.TRANSCRIPT), ("context", Kind.CONTEXT)])
    def test_another_transcript(
        self, log: Path, tmp_path: Path, world: Federation, field: str, kind: Kind
    ) -> None:
        forge(log, world.identities[VICTIM], change("round_ended", field, "22" * 32, 1))
        found = findings(judged(tmp_path), VICTIM, kind)
        assert found[0].line == line_of(log, "round_ended", 1) + 1

    def test_another_transcript_in_the_close_record(self, tmp_path: Path, world: Federation) -> None:
        log = tmp_path / "logs" / "coordinator.jsonl"
        forge(log, world.identities["coordinator"], change("round_ended", "transcript", "22" * 32, 1))
        assert findings(judged(tmp_path), "coordinator", Kind.CLOSE)

    def test_two_versions_of_one_log(self, log: Path, tmp_path: Path, world: Federation) -> None:
        """Two others hold different heads of one line: the party signed both."""
        other = Federation(3)
        other.terms.max_epsilon = 99.0
        other.clock.tick()
        other.session(1)
        other.save(tmp_path / "other")
        for name in ("clinic-1", "coordinator"):
            shutil.copy(tmp_path / "other" / "logs" / f"{name}.jsonl", log.parent)
        log.unlink()
        judgement = judged(tmp_path)
        assert judgement.verdict is Verdict.TAMPERED


class TestALostLog:
    """An institution lost its log and began another, which names the last line others hold of the first."""

    def begin_again(self, folder: Path, *, back: int = 0) -> tuple[Federation, Log]:
        made = Federation(3)
        made.session(1)
        lost = made.logs[VICTIM]
        held = audit([made.save(folder / "before")]).parties
        seen = next(one.logs[0].seen for one in held if one.party == VICTIM)
        assert seen is not None
        seq = seen.seq - back
        end = LogHead(lost.log_id, seq, sha256(lost.segments[0][seq]).digest())
        made.logs[VICTIM] = Log(VICTIM, made.identities[VICTIM], made.clock, continues=end)
        made.logs[VICTIM].write("policy", made.policy(VICTIM))
        made.session(2)
        made.save(folder)
        return made, lost

    def test_what_it_names_is_all_that_others_hold(self, tmp_path: Path) -> None:
        self.begin_again(tmp_path)
        judgement = judged(tmp_path)
        assert judgement.verdict is Verdict.VERIFIED, judgement.findings
        assert any("earlier log" in item and VICTIM in item for item in judgement.unchecked)

    def test_it_names_less(self, tmp_path: Path) -> None:
        self.begin_again(tmp_path, back=3)
        assert findings(judged(tmp_path), VICTIM, Kind.MISSING_LOG)

    def test_the_lost_log_is_found_again(self, tmp_path: Path) -> None:
        _, lost = self.begin_again(tmp_path)
        (tmp_path / "found").mkdir()
        lost.save(tmp_path / "found")
        both = [tmp_path, tmp_path / "found"]
        judgement = audit(both, tmp_path / "roster.json")
        assert judgement.verdict is Verdict.VERIFIED, judgement.findings
        victim = next(one for one in judgement.parties if one.party == VICTIM)
        assert (len(victim.logs), victim.sessions, victim.closed) == (2, 2, 2)
        assert len(victim.spends[0].sessions) == 2, "both sessions count against one budget"

    def test_another_log_is_shown_in_its_place(self, tmp_path: Path) -> None:
        made, _ = self.begin_again(tmp_path)
        other = Federation(3, Terms(max_epsilon=99.0))
        other.session(1)
        (tmp_path / "found").mkdir()
        other.logs[VICTIM].save(tmp_path / "found")
        judgement = audit([tmp_path, tmp_path / "found"], tmp_path / "roster.json")
        assert findings(judgement, VICTIM, Kind.REWRITTEN)
        assert made.logs[VICTIM].log_id != other.logs[VICTIM].log_id


class TestWhatIsNoLog:
    def test_another_file(self, tmp_path: Path) -> None:
        path = tmp_path / "notes.jsonl"
        path.write_text('{"note": 1}\n')
        with pytest.raises(InvalidInput, match="is not a log of this program"):
            audit([path])

    def test_an_empty_file(self, tmp_path: Path) -> None:
        path = tmp_path / "clinic-1.jsonl"
        path.write_bytes(b"")
        with pytest.raises(InvalidInput, match="is not a log of this program"):
            audit([path])

    def test_a_folder_without_logs(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match="there is no log in"):
            audit([tmp_path])

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match="no such file or folder"):
            audit([tmp_path / "clinic-1.jsonl"])

    def test_an_edited_roster(self, world: Federation, tmp_path: Path) -> None:
        roster = tmp_path / "roster.json"
        roster.write_text(roster.read_text().replace("clinic-1", "clinic-9"))
        with pytest.raises(InvalidInput, match="is not a roster, or was edited"):
            judged(tmp_path)
