"""The noise: its size, that all draw the same, and that it stops the attack that exact values allow."""

import math

import numpy as np
import pytest
import tenseal

from fedapt_crypto.secagg.ckks.flooding import (
    DEFAULT_DECRYPTIONS,
    SECURITY_BITS,
    flood,
    noise_deviation,
    slot_error,
)
from fedapt_crypto.secagg.ckks.frames import Operation
from fedapt_crypto.secagg.ckks.parameters import CAPACITY, DEGREE, SLOTS
from tests.crypto.secagg.ckks import attack
from tests.crypto.secagg.ckks.groups import contexts, public_worker, secret_worker


def encrypted_sum(vectors: list[np.ndarray]) -> bytes:
    total = b""
    for vector in vectors:
        (piece,) = secret_worker().call(Operation.ENCRYPT, vector.tobytes())
        (total,) = public_worker().call(Operation.ADD, total, piece)
    return total


def decrypted(piece: bytes) -> np.ndarray:
    return np.frombuffer(secret_worker().call(Operation.DECRYPT, piece)[0])


@pytest.mark.parametrize("n", [3, 5, 64])
def test_the_error_is_what_the_noise_is_sized_for(n: int) -> None:
    rng = np.random.default_rng(n)
    vectors = [rng.uniform(-1, 1, SLOTS) * CAPACITY / n for _ in range(n)]
    error = decrypted(encrypted_sum(vectors)) - np.sum(vectors, axis=0)
    assert 0.8 * slot_error(n) < error.std() < 1.05 * slot_error(n)  # of 2,048 samples: ±1.6 % is one σ


def test_the_noise_meets_its_bound() -> None:
    participants, decryptions = 10, 1000
    deviation = noise_deviation(participants, decryptions)
    moved = slot_error(participants) ** 2 * SLOTS
    divergence = decryptions * moved / (2 * deviation**2)
    assert math.isclose(divergence, 2.0 ** -(SECURITY_BITS + 7))


def test_figures_that_the_documents_give() -> None:
    assert noise_deviation(5, DEFAULT_DECRYPTIONS) == pytest.approx(0.0153, rel=0.01)
    assert noise_deviation(64, DEFAULT_DECRYPTIONS) == pytest.approx(0.0546, rel=0.01)


def test_noise_is_gaussian_on_a_grid_and_follows_from_its_key() -> None:
    deviation = noise_deviation(5, DEFAULT_DECRYPTIONS)
    exact = np.linspace(-100, 100, 200_001)
    flooded = flood(exact, deviation, bytes(32))
    assert np.array_equal(flooded, flood(exact, deviation, bytes(32)))
    assert not np.array_equal(flooded, flood(exact, deviation, b"\x01" * 32))
    noise = flooded - exact
    assert abs(noise.mean()) < 6 * deviation / math.sqrt(len(exact))
    assert noise.std() == pytest.approx(deviation, rel=0.02)
    assert np.mean(np.abs(noise) < deviation) == pytest.approx(0.6827, abs=0.01)
    grid = 2.0 ** math.floor(math.log2(deviation / 1024))
    assert np.array_equal(np.rint(flooded / grid) * grid, flooded)


def test_a_last_bit_that_differs_between_processors_does_not_show() -> None:
    deviation = noise_deviation(5, DEFAULT_DECRYPTIONS)
    exact = np.random.default_rng(0).uniform(-100, 100, 10_000)
    assert np.array_equal(
        flood(exact, deviation, bytes(32)), flood(np.nextafter(exact, np.inf), deviation, bytes(32))
    )


@pytest.fixture(scope="module")
def setting():
    """What the coordinator has, two sums of ten and what was decrypted, and the key it must not find."""
    rng = np.random.default_rng(0)
    sums = [encrypted_sum([rng.uniform(-4, 4, SLOTS) for _ in range(10)]) for _ in range(2)]
    secret, public = (tenseal.context_from(context, n_threads=1) for context in contexts())
    return public, sums, [decrypted(piece) for piece in sums], attack.secret_key(secret)


def test_two_exact_sums_give_the_key_away(setting, tmp_path) -> None:
    assert attack.recovered_coefficients(*setting, tmp_path) == DEGREE


def test_two_sums_with_our_noise_do_not(setting, tmp_path) -> None:
    public, sums, exact, key = setting
    deviation = noise_deviation(10, DEFAULT_DECRYPTIONS)
    kept = [flood(slots, deviation, bytes([i]) * 32) for i, slots in enumerate(exact)]
    assert attack.recovered_coefficients(public, sums, kept, key, tmp_path) == 0
