"""Whether a Ray cluster can hold a run."""

from math import floor
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.simulate.engines.ray_room import Node, Seen, check_machine, nodes_of, places, share_of


def node(cpus: float, gpus: float = 0) -> Node:
    return Node("00", "192.0.2.1", cpus, gpus)


def test_a_laptop_is_divided_evenly() -> None:
    assert share_of([node(2)], 5, None, 0) == 0.4
    assert share_of([node(16)], 5, None, 0) == 1


def test_no_institution_spans_two_machines() -> None:
    # 3 + 3 processors for 4 would be 1.5 each, but 2 fit on each machine anyway: one each.
    assert share_of([node(3), node(3)], 4, None, 0) == 1
    # 7 on 3 + 3: one machine takes four of them.
    assert share_of([node(3), node(3)], 7, None, 0) == 0.75


@pytest.mark.parametrize(
    ("gpus", "wanted", "fit"), [(1, 0.5, 2), (2, 0.4, 4), (4, 2, 2), (3, 2, 1), (0, 1, 0), (1, 1 / 3, 3)]
)
def test_a_share_of_a_gpu_comes_from_one_gpu(gpus: float, wanted: float, fit: int) -> None:
    assert places(node(64, gpus), 1, wanted) == fit


@pytest.mark.parametrize(("cpus", "gpus"), [(1.0, 0.0), (None, 1.0), (0.7, 0.0)])
def test_a_small_cluster_is_refused_in_one_line(cpus: float | None, gpus: float) -> None:
    with pytest.raises(InvalidInput, match="do not fit on the Ray cluster's 1 machines") as caught:
        share_of([node(2)], 5, cpus, gpus)
    assert "\n" not in str(caught.value)


@given(
    st.lists(st.integers(1, 64), min_size=1, max_size=6),
    st.integers(1, 200),
)
def test_an_equal_share_fits_and_a_larger_one_does_not(cpus: list[int], institutions: int) -> None:
    nodes = [node(one) for one in cpus]
    assume(institutions <= 100 * sum(cpus))  # a share is a hundredth at least
    share = share_of(nodes, institutions, None, 0)
    assert 0 < share <= 1
    assert sum(floor(one / share + 1e-9) for one in cpus) >= institutions
    if share < 1:
        larger = share + 0.01
        assert sum(floor(one / larger + 1e-9) for one in cpus) < institutions


def test_the_dead_do_not_count() -> None:
    described = [
        {"Alive": True, "NodeID": "aa", "NodeManagerAddress": "192.0.2.1", "Resources": {"CPU": 4.0}},
        {"Alive": False, "NodeID": "bb", "NodeManagerAddress": "192.0.2.2", "Resources": {"CPU": 4.0}},
        {"Alive": True, "NodeID": "cc", "NodeManagerAddress": "192.0.2.3", "Resources": {"GPU": 2.0}},
    ]
    assert nodes_of(described) == (Node("aa", "192.0.2.1", 4, 0), Node("cc", "192.0.2.3", 0, 2))


def test_a_machine_has_to_have_our_version_and_see_the_run_folder() -> None:
    here = Seen("1.0", "ab")
    check_machine("192.0.2.1", here, here, Path("/run"))
    with pytest.raises(InvalidInput, match="has fedapt-secure 0.9 and this one 1.0"):
        check_machine("192.0.2.1", Seen("0.9", "ab"), here, Path("/run"))
    with pytest.raises(InvalidInput, match="192.0.2.1 does not see the run folder /run"):
        check_machine("192.0.2.1", Seen("1.0", ""), here, Path("/run"))
