import numpy as np
import pytest
from scipy import stats

from fedapt_crypto.keystream import Keystream
from fedapt_secure.learning.privacy.noise import gaussian


def stream(number: int = 0) -> Keystream:
    return Keystream(bytes([number]) * 32)


def test_gaussian_values_have_the_moments_and_tails_of_a_normal():
    values = gaussian(stream(), (1000, 400)).ravel()
    count = len(values)
    assert abs(values.mean()) < 5 / count**0.5
    assert abs(values.var() - 1) < 5 * (2 / count) ** 0.5
    assert abs((values**3).mean()) < 5 * (15 / count) ** 0.5
    for bound, share in ((1.0, 0.317311), (2.0, 0.045500), (3.0, 0.002700)):
        assert abs((np.abs(values) > bound).mean() - share) < 5 * (share / count) ** 0.5
    pairs = values.reshape(-1, 2)
    assert abs((pairs[:, 0] * pairs[:, 1]).mean()) < 5 / len(pairs) ** 0.5
    assert abs((pairs[:, 0] ** 2 * pairs[:, 1] ** 2).mean() - 1) < 5 * (8 / len(pairs)) ** 0.5


@pytest.mark.parametrize("shape", [(0,), (1,), (7,), (3, 5)])
def test_gaussian_gives_any_shape_and_never_the_same_twice(shape):
    keystream = stream()
    first, second = gaussian(keystream, shape), gaussian(keystream, shape)
    assert first.shape == shape
    assert first.dtype == np.float64
    if first.size:
        assert not np.equal(first, second).any()
        assert np.array_equal(first, gaussian(stream(), shape))


class _Extreme:
    """A keystream of one word over and over."""

    def __init__(self, word: int) -> None:
        self.word = word

    def uniform_words(self, count: int):
        return np.full(count, self.word, np.uint64)


@pytest.mark.parametrize("word", [0, 2**64 - 1])
def test_gaussian_is_finite_at_the_ends_of_the_uniform_range(word):
    values = gaussian(_Extreme(word), (4,))
    assert np.isfinite(values).all()
    assert np.abs(values).max() < 13.4


def test_gaussian_values_are_normal_by_kolmogorov_and_smirnov_also_in_the_tails():
    values = gaussian(stream(3), (1 << 20,))
    assert stats.kstest(values, "norm").pvalue > 0.01
    beyond = np.abs(values[np.abs(values) > 3])  # 2,800 of them: their own shape, not the bulk's
    assert (
        stats.kstest(beyond, lambda x: (stats.norm.sf(3) - stats.norm.sf(x)) / stats.norm.sf(3)).pvalue > 0.01
    )


def test_the_two_values_of_a_pair_are_independent():
    pairs = gaussian(stream(4), (1 << 18, 2))
    angles = np.arctan2(pairs[:, 1], pairs[:, 0]) / (2 * np.pi) + 0.5
    squares = (pairs**2).sum(1)
    assert stats.kstest(angles, "uniform").pvalue > 0.01
    assert stats.kstest(squares, stats.chi2(2).cdf).pvalue > 0.01
    assert abs(np.corrcoef(angles, squares)[0, 1]) < 5 / len(pairs) ** 0.5


def test_small_uniform_numbers_get_more_bits():
    """Forced into the tail: radii beyond 8.57 take many values, not the few that 53 bits would leave."""

    class Tail:
        def __init__(self):
            self.inner, self.calls = stream(6), 0

        def uniform_words(self, count):
            self.calls += 1
            words = self.inner.uniform_words(count)
            return words >> np.uint64(62) if self.calls % 2 else words  # u below 2^-62: 0 to 3

    values = gaussian(Tail(), (2000,)).reshape(-1, 2)
    radii = np.hypot(values[:, 0], values[:, 1])
    assert len(np.unique(radii)) > 900
    assert radii.min() > 9.0
