"""The noise: its size, that all draw the same, and that it stops the attack that exact values allow."""

import math

import numpy as np
import pytest
import tenseal

from fedapt_crypto.secagg.ckks import flooding
from fedapt_crypto.secagg.ckks.flooding import (
    DEFAULT_DECRYPTIONS,
    SECURITY_BITS,
    noise,
    noise_deviation,
    slot_error,
)
from fedapt_crypto.secagg.ckks.frames import Operation
from fedapt_crypto.secagg.ckks.parameters import DEGREE, SLOTS, UNIT
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
    vectors = [rng.uniform(-1, 1, SLOTS) * 512 / n for _ in range(n)]
    error = (decrypted(encrypted_sum(vectors)) - np.sum(vectors, axis=0)) / UNIT
    assert 0.8 * slot_error(n) < error.std() < 1.05 * slot_error(n)  # of 2,048 samples: ±1.6 % is one σ


@pytest.mark.parametrize("participants", [3, 10, 64])
def test_the_noise_meets_its_bound(participants: int) -> None:
    decryptions = 1000
    deviation = noise_deviation(participants, decryptions)
    moved = slot_error(participants) ** 2 * SLOTS
    divergence = decryptions * moved / (2 * deviation**2)
    assert math.isclose(divergence, 2.0 ** -(SECURITY_BITS + 7))


def test_figures_that_the_documents_give() -> None:
    assert noise_deviation(5, DEFAULT_DECRYPTIONS) == pytest.approx(64_000, rel=0.01)
    assert noise_deviation(64, DEFAULT_DECRYPTIONS) == pytest.approx(229_000, rel=0.01)
    assert slot_error(64) == pytest.approx(9.4e-6, rel=0.01)


def test_noise_is_gaussian_and_follows_from_its_key() -> None:
    sizes = {"participants": 5, "decryptions": DEFAULT_DECRYPTIONS}
    deviation = noise_deviation(**sizes)
    drawn = noise(bytes(32), 200_001, **sizes)
    assert drawn.dtype == np.int64
    assert np.array_equal(drawn, noise(bytes(32), 200_001, **sizes))
    assert np.array_equal(drawn[:77], noise(bytes(32), 77, **sizes))
    assert not np.array_equal(drawn, noise(b"\x01" * 32, 200_001, **sizes))
    assert abs(drawn.mean()) < 6 * deviation / math.sqrt(len(drawn))
    assert drawn.std() == pytest.approx(deviation, rel=0.02)
    assert np.mean(np.abs(drawn) < deviation) == pytest.approx(0.6827, abs=0.01)


@pytest.mark.parametrize(("participants", "decryptions"), [(3, 1), (5, 4096), (64, 1 << 20)])
def test_each_noise_is_the_nearest_integer_whatever_float64_says(
    participants: int, decryptions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"participants": participants, "decryptions": decryptions}
    drawn = noise(bytes(32), 1000, **sizes)
    monkeypatch.setattr(flooding, "_DOUBT", 1.0)  # doubt everything
    assert np.array_equal(noise(bytes(32), 1000, **sizes), drawn)


def test_a_last_bit_that_differs_between_processors_does_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"participants": 64, "decryptions": 1 << 20}
    drawn = noise(bytes(32), 1 << 18, **sizes)
    log1p, sin, cos = np.log1p, np.sin, np.cos
    monkeypatch.setattr(np, "log1p", lambda x: log1p(x) * (1 + 2.0**-50))
    monkeypatch.setattr(np, "sin", lambda x: sin(x) - 2.0**-52)
    monkeypatch.setattr(np, "cos", lambda x: cos(x) * (1 - 2.0**-50))
    assert np.array_equal(noise(bytes(32), 1 << 18, **sizes), drawn)


def test_without_the_second_look_it_would(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"participants": 64, "decryptions": 1 << 20}
    log1p = np.log1p
    monkeypatch.setattr(flooding, "_DOUBT", 0.0)
    drawn = noise(bytes(32), 1 << 18, **sizes)
    monkeypatch.setattr(np, "log1p", lambda x: log1p(x) * (1 + 2.0**-36))
    assert not np.array_equal(noise(bytes(32), 1 << 18, **sizes), drawn)


@pytest.fixture(scope="module")
def setting():
    """What the coordinator has, two sums of ten and what was decrypted, and the key it must not find."""
    rng = np.random.default_rng(0)
    integers = [[rng.integers(-(2**24), 2**24, SLOTS) for _ in range(10)] for _ in range(2)]
    sums = [encrypted_sum([vector * UNIT for vector in vectors]) for vectors in integers]
    secret, public = (tenseal.context_from(context, n_threads=1) for context in contexts())
    return public, sums, [decrypted(piece) for piece in sums], attack.secret_key(secret)


def test_two_exact_sums_give_the_key_away(setting, tmp_path) -> None:
    assert attack.recovered_coefficients(*setting, tmp_path) == DEGREE


def test_two_sums_rounded_to_integers_do_not(setting, tmp_path) -> None:
    """Rounding alone stops this attack: what is left says nothing of the error."""
    public, sums, exact, key = setting
    kept = [np.rint(slots / UNIT) * UNIT for slots in exact]
    assert attack.recovered_coefficients(public, sums, kept, key, tmp_path) == 0


def test_two_sums_with_our_noise_do_not(setting, tmp_path) -> None:
    public, sums, exact, key = setting
    sizes = {"participants": 10, "decryptions": DEFAULT_DECRYPTIONS}
    kept = [
        (np.rint(slots / UNIT) + noise(bytes([i]) * 32, SLOTS, **sizes)) * UNIT
        for i, slots in enumerate(exact)
    ]
    assert attack.recovered_coefficients(public, sums, kept, key, tmp_path) == 0
