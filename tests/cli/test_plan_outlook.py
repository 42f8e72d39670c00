"""What ``plan`` says beside σ: prior weight, what was left of the gain at such noise, what more would buy."""

import json
import math

import pytest

from fedapt_secure.cli.work.planning.outlook import FederationSize, outlooks_of
from fedapt_secure.privacy.gain_kept import Measured, table, table_of
from fedapt_secure.privacy.prior_weight import Contribution, prior_weight
from fedapt_secure.process.exit_status import ExitStatus

SIZE = FederationSize(institutions=5, classes=10, feature_size=64)
PLAN = ["plan", "--epsilon", "2", "--records", "270", "--rounds", "2"]


class TestOutlooks:
    def test_more_of_anything_is_less_noise(self) -> None:
        now, records, institutions, epsilon = outlooks_of(SIZE, 2.0, 1e-5, 270)
        for more in (records, institutions, epsilon):
            assert more.prior_weight < now.prior_weight
            assert all(more.kept[name] >= kept for name, kept in now.kept.items())

    def test_the_weight_is_that_of_a_session_of_such_institutions(self) -> None:
        found = outlooks_of(SIZE, 2.0, 1e-5, 270)[0].prior_weight
        one = Contribution.of_budget(2.0, 1e-5, 120, 270)
        assert found == prior_weight([one] * 5, participants=5, steps=120, noisy_values=6400)

    def test_noise_beyond_what_was_measured_is_marked(self) -> None:
        assert outlooks_of(SIZE, 4.0, None, 260)[0].within
        assert not outlooks_of(SIZE, 0.05, None, 10)[0].within
        assert not outlooks_of(SIZE, 50.0, None, 100_000)[0].within


class TestTable:
    def test_it_ships_and_says_where_it_is_from(self) -> None:
        shipped = table()
        assert {one.dataset for one in shipped.datasets} == {"digits", "digits-flipped"}
        assert "seeds" in shipped.measured_on
        for one in shipped.datasets:
            quotients = [quotient for quotient, _ in one.kept]
            assert quotients == sorted(quotients)
            assert len(quotients) >= 4
            assert all(-1 < kept < 1.2 for _, kept in one.kept)

    @pytest.mark.parametrize(
        ("quotient", "expected"),
        [(1e-9, 0.9), (0.01, 0.9), (0.1, 0.5), (math.sqrt(0.01 * 0.1), 0.7), (1.0, 0.1), (50.0, 0.1)],
    )
    def test_between_two_that_were_measured_it_is_between(self, quotient: float, expected: float) -> None:
        one = Measured("digits", ((0.01, 0.9), (0.1, 0.5), (1.0, 0.1)))
        assert one.at(quotient) == pytest.approx(expected)

    def test_it_is_read_as_it_is_written(self) -> None:
        found = table_of({"measured_on": "a day", "datasets": {"x": [[0.5, 0.25]]}})
        assert (found.measured_on, found.datasets[0].kept) == ("a day", ((0.5, 0.25),))


class TestCommand:
    def test_people_read_it(self, capsys: pytest.CaptureFixture[str]) -> None:
        from fedapt_secure.cli.app import run  # noqa: PLC0415

        assert run(PLAN) == ExitStatus.DONE
        shown = " ".join(capsys.readouterr().out.split())
        assert "prior weight 0.0" in shown
        assert "with 5 institutions like this one, 10 classes" in shown
        assert "on the embedded digits" in shown
        for row in ("this plan", "twice the records", "twice the institutions", "twice the ε"):
            assert row in shown

    def test_programs_read_the_same(self, capsys: pytest.CaptureFixture[str]) -> None:
        from fedapt_secure.cli.app import run  # noqa: PLC0415

        arguments = ["--institutions", "20", "--classes", "3", "--feature-size", "512", "--json"]
        assert run([*PLAN, *arguments]) == ExitStatus.DONE
        found = json.loads(capsys.readouterr().out)
        size = FederationSize(institutions=20, classes=3, feature_size=512)
        expected = outlooks_of(size, 2.0, None, 270)
        assert found["prior_weight"] == expected[0].prior_weight
        assert found["gain_kept"]["twice the ε"]["digits"] == expected[3].kept["digits"]
        assert found["gain_measured_on"] == table().measured_on

    @pytest.mark.parametrize("option", ["--institutions", "--classes", "--feature-size"])
    def test_what_is_no_size_is_refused(self, capsys: pytest.CaptureFixture[str], option: str) -> None:
        from fedapt_secure.cli.app import run  # noqa: PLC0415

        assert run([*PLAN, option, "0"]) == ExitStatus.BAD_INPUT
        assert option in capsys.readouterr().err
