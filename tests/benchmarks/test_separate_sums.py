"""A sum of FedAPT updates comes apart where each institution has a key of its own, and nowhere else."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.attacks import separate_sums as script
from benchmarks.attacks.federation import Federation, Members, draw_keys
from benchmarks.attacks.key_fit import fit_keys, matched, random_start
from benchmarks.attacks.row_spaces import correlation, take_apart, without_mean
from benchmarks.learning.federated_loop import AS_BEFORE, Trial
from fedapt_secure.protocol.methods import FEDCLIP, PROMPTFL

FEW = 8
ALONE = Members(institutions=3, keys=3, few_shot=FEW)
SHARED = Members(institutions=4, keys=2, few_shot=FEW)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def found(
    group: str, members: Members, *, epsilon: float | None = 8.0, knows: str = script.ALL_KEYS
) -> script.Found:
    setting = script.Setting(group, knows, members, epsilon=epsilon)
    (one,) = script.attack(setting, 20, 1, 1, lambda line: None)
    return one


@pytest.mark.parametrize("epsilon", [8.0, None])
@pytest.mark.slow  # training, and a benchmark's script
def test_known_keys_give_each_update_with_noise_and_without(epsilon: float | None) -> None:
    one = found("known", ALONE, epsilon=epsilon)
    assert min(one.update) > 0.99
    assert max(one.sum_alone) < 0.95
    assert one.apart == []


@pytest.mark.slow  # training, and a benchmark's script
def test_two_on_a_key_give_their_sum_alone() -> None:
    one = found("shared", SHARED)
    assert min(one.key_sum) > 0.99
    assert one.apart == [0.0] * 4
    assert max(one.update) < 0.95


def test_guessed_keys_give_less_than_the_sum() -> None:
    one = found("guessed", ALONE, knows=script.GUESSED)
    assert np.mean(one.update) < np.mean(one.sum_alone)


def test_a_colluder_gets_no_more_than_the_rest_of_the_sum() -> None:
    one = found("colluder", ALONE, knows=script.OWN_KEY)
    assert len(one.update) == 2
    assert np.mean(one.update) < np.mean(one.sum_alone)


def test_without_keys_there_is_the_sum_and_nothing_else() -> None:
    one = found("promptfl", Members(PROMPTFL, 3, 3, FEW))
    assert one.update == pytest.approx(one.sum_alone, abs=1e-4)
    assert one.apart == [0.0] * 3


def test_a_method_without_a_context_is_refused() -> None:
    with pytest.raises(SystemExit, match="fedclip"):
        Federation(Members(FEDCLIP, 3, 3, FEW), Trial(seed=20))


@pytest.mark.slow  # training, and a benchmark's script
def test_a_fit_finds_keys_from_sums_alone() -> None:
    trial = Trial(**AS_BEFORE | {"seed": 20, "local_steps": 1, "context_tokens": 4})
    federation = Federation(Members(institutions=2, keys=2, few_shot=FEW), trial)
    seen = federation.rounds(1)
    true = federation.own_keys
    near = (true + 0.2 * (random_start(2, federation.shape.key, torch.Generator()) - 0.5)).clamp(0.01, 0.99)
    left: list[float] = []
    # Round the wrong way: the estimates have to be matched.
    sums_alone = [replace(one, updates=torch.zeros(0)) for one in seen]
    fitted = fit_keys(
        federation.text, sums_alone, near.flip(0), 10, 0.0, lambda number, one: left.append(one)
    )
    assert left[-1] < left[0] / 3
    assert (fitted - true.flip(0)).norm() < (near - true).norm()
    estimates = [take_apart(federation.text, one.prompt, one.total, fitted) for one in seen]
    assert matched(estimates, [one.updates for one in seen]) == (1, 0)
    assert correlation(estimates[0][1], seen[0].updates[0]) > 0.97


def test_estimates_are_matched_by_what_they_are() -> None:
    updates = torch.eye(3, dtype=torch.float64)
    assert matched([updates[[1, 2, 0]]], [updates]) == (2, 0, 1)
    assert torch.equal(updates[[1, 2, 0]][[2, 0, 1]], updates)


def test_ridge_costs_little_where_the_row_spaces_are_right() -> None:
    federation = Federation(ALONE, Trial(**AS_BEFORE | {"seed": 20, "local_steps": 1}))
    (one,) = federation.rounds(1)
    plain = take_apart(federation.text, one.prompt, one.total, federation.own_keys)
    ridged = take_apart(federation.text, one.prompt, one.total, federation.own_keys, 1e-6)
    assert correlation(plain, ridged) > 0.999
    assert ridged.norm() < plain.norm()


def test_skipped_rounds_are_trained() -> None:
    trial = Trial(**AS_BEFORE | {"seed": 20, "local_steps": 1})
    first, second = Federation(ALONE, trial).rounds(2)
    (later,) = Federation(ALONE, trial).rounds(1, skipped=1)
    assert torch.equal(later.prompt, second.prompt)
    assert not torch.equal(first.prompt, second.prompt)
    assert torch.equal(later.total, second.total)


def test_the_sum_is_that_of_the_updates_to_fixed_point() -> None:
    federation = Federation(ALONE, Trial(**AS_BEFORE | {"seed": 20, "local_steps": 1}))
    (one,) = federation.rounds(1)
    gap = (one.total - one.updates.sum(dim=0)).abs().max()
    assert 0 < gap <= 3 * 2.0**-27  # three summands, 27 fraction bits, half a step each


def test_members_differ_from_their_groups_mean() -> None:
    updates = torch.tensor([[1.0, 0.0], [5.0, 1.0], [3.0, 0.0]], dtype=torch.float64)
    apart = without_mean(updates, (0, 1, 0))
    assert apart.tolist() == [[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]]


def test_every_row_of_the_table_has_a_cell_for_each_column() -> None:
    for setting in script.settings(8.0):
        count = setting.members.institutions
        numbers = [0.5] * count
        apart = [0.0] * count if setting.members.keys < count else []
        summary = script.medians([script.Found(numbers, numbers, numbers, apart)] * 3)
        assert len(script.row(setting, summary)) == len(script.COLUMNS)
    assert {one.epsilon for one in script.settings(8.0)} == {8.0, None}


def test_guesses_are_keys() -> None:
    shape = Federation(ALONE, Trial(**AS_BEFORE | {"seed": 20, "local_steps": 1})).shape
    keys = draw_keys(shape, np.random.default_rng(0))
    assert keys.shape == (3, *shape.key)
    assert float(keys.min()) >= 0
    assert float(keys.max()) < 1
