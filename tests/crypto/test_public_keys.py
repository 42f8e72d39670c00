"""Public keys that no honest party has: the constants of the check against plain arithmetic on the curves."""

import random
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from fedapt_crypto import identity, seal
from fedapt_crypto.errors import VerificationFailed
from fedapt_crypto.identity import Identity
from fedapt_crypto.seal import SealingKey

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
"""Order of the large subgroup of edwards25519 and curve25519 (RFC 7748, 4.1); a prime."""
TWIST = (2 * P + 2 - 8 * L) // 4
"""Order of the large subgroup of curve25519's twist."""
COFACTOR = 8
D = -121665 * pow(121666, -1, P) % P
SIGN = 1 << 255
MLKEM_HALF = SealingKey(bytes(32)).public_key[:1184]
Point = tuple[int, int]
NEUTRAL: Point = (0, 1)


def add(a: Point, b: Point) -> Point:
    """Add two points of edwards25519 by the complete formula of RFC 8032, 5.1.4."""
    (x1, y1), (x2, y2) = a, b
    product = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, P)
    y = (y1 * y2 + x1 * x2) * pow(1 - product, -1, P)
    return x % P, y % P


def multiple(k: int, point: Point) -> Point:
    """Multiply a point of edwards25519, bit by bit."""
    result = NEUTRAL
    for bit in bin(k)[2:]:
        result = add(result, result)
        if bit == "1":
            result = add(result, point)
    return result


def root(square: int) -> int | None:
    """Return a square root modulo P, as RFC 8032, 5.1.3 finds it."""
    found = pow(square, (P + 3) // 8, P)
    if (found * found - square) % P:
        found = found * pow(2, (P - 1) // 4, P) % P
    return found if (found * found - square) % P == 0 else None


def point_of(y: int) -> Point | None:
    """Return a point with that y, if there is one."""
    x = root((y * y - 1) * pow(D * y * y + 1, -1, P) % P)
    return None if x is None else (x, y)


def ladder(k: int, u: int) -> int | None:
    """Return the u of a multiple of a point of curve25519 or its twist; ``None`` is the point at infinity."""
    x1, z1, x2, z2 = 1, 0, u, 1
    for bit in bin(k)[2:]:
        if bit == "1":
            x1, z1, x2, z2 = x2, z2, x1, z1
        plus, minus = (x1 + z1) % P, (x1 - z1) % P
        cross, other = minus * (x2 + z2), plus * (x2 - z2)
        x2, z2 = (cross + other) ** 2 % P, u * (cross - other) ** 2 % P
        squares = plus * plus, minus * minus
        difference = squares[0] - squares[1]
        x1, z1 = squares[0] * squares[1] % P, difference * (squares[1] + 121666 * difference) % P
        if bit == "1":
            x1, z1, x2, z2 = x2, z2, x1, z1
    return None if z1 == 0 else x1 * pow(z1, -1, P) % P


def small_y() -> set[int]:
    """All y of points whose order divides 8: multiples by L of random points run through the whole group."""
    drawn, found = random.Random(1), set()
    while len(found) < COFACTOR:
        point = point_of(drawn.randrange(P))
        if point is not None:
            found.add(multiple(L, point))
    return {y for _, y in found}


def small_u() -> set[int]:
    """All u of points of small order, on the curve (order 8 and below) and on its twist (4 and below)."""
    drawn, found = random.Random(2), set()
    for _ in range(60):
        u = drawn.randrange(P)
        found |= {ladder(L, u), ladder(TWIST, u)}
    return {u for u in found if u is not None and ladder(COFACTOR, u) is None}


SMALL_Y, SMALL_U = small_y(), small_u()


def sealing_key(u: int) -> bytes:
    return MLKEM_HALF + u.to_bytes(32, "little")


def refused(check: Callable[..., None], key: bytes) -> bool:
    """Whether a key is refused; its owner is named then."""
    with pytest.raises(VerificationFailed) as caught:
        check(key, owner="clinic-1")
    return caught.value.peer == "clinic-1"


class TestArithmetic:
    """What the tests below rely on, held against known points and the library."""

    def test_the_base_points(self) -> None:
        base = point_of(4 * pow(5, -1, P) % P)
        assert base is not None
        assert multiple(L, base) == NEUTRAL
        assert multiple(COFACTOR, base) != NEUTRAL
        assert ladder(L, 9) is None
        assert ladder(COFACTOR, 9) is not None

    @settings(max_examples=10, deadline=None)
    @given(st.binary(min_size=32, max_size=32))
    def test_the_ladder_is_the_library_s(self, private: bytes) -> None:
        number = int.from_bytes(private, "little") & ~7 & (2**255 - 1) | 1 << 254
        library = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
        assert ladder(number, 9) == int.from_bytes(library, "little")


class TestIdentityKeys:
    def test_exactly_the_points_of_small_order_are_refused(self) -> None:
        assert frozenset(SMALL_Y) == identity._SMALL_ORDER
        assert len(SMALL_Y) == 5
        for y in SMALL_Y:
            point = point_of(y)
            assert point is not None
            assert multiple(COFACTOR, point) == NEUTRAL

    @pytest.mark.parametrize("y", sorted(SMALL_Y))
    @pytest.mark.parametrize("sign", [0, SIGN])
    def test_of_small_order(self, y: int, sign: int) -> None:
        assert refused(identity.check_public_key, (y | sign).to_bytes(32, "little"))

    def test_why(self) -> None:
        """Under the neutral point one signature is good for whatever message."""
        neutral = (1).to_bytes(32, "little")
        for label in ("roster entry", "another label"):
            identity.verify(neutral, neutral + bytes(32), label, b"what nobody has signed", signer="x")

    @pytest.mark.parametrize("y", range(P, 2**255))
    @pytest.mark.parametrize("sign", [0, SIGN])
    def test_not_canonical(self, y: int, sign: int) -> None:
        assert refused(identity.check_public_key, (y | sign).to_bytes(32, "little"))

    @pytest.mark.parametrize("key", [b"", bytes(32), bytes(31), bytes([5]) * 31, bytes([5]) * 33])
    def test_zero_and_wrong_lengths(self, key: bytes) -> None:
        assert refused(identity.check_public_key, key)

    @settings(deadline=None)
    @given(st.binary(min_size=32, max_size=32))
    def test_an_honest_one_always_passes(self, private: bytes) -> None:
        identity.check_public_key(Identity.from_private_bytes(private).public_key, owner="clinic-1")


class TestSealingKeys:
    def test_exactly_the_points_of_small_order_are_refused(self) -> None:
        assert frozenset(SMALL_U) == seal._SMALL_ORDER
        assert len(SMALL_U) == 5
        assert all(ladder(COFACTOR, u) is None for u in SMALL_U)

    def test_both_curves_have_the_same_ones(self) -> None:
        """y = (u − 1)/(u + 1); u = −1 lies on the twist, and infinity is the neutral point."""
        images = {(u - 1) * pow(u + 1, -1, P) % P for u in SMALL_U - {P - 1}}
        assert images | {1} == SMALL_Y

    @pytest.mark.parametrize("u", sorted(SMALL_U))
    def test_of_small_order(self, u: int) -> None:
        assert refused(seal.check_public_key, sealing_key(u))
        point = X25519PublicKey.from_public_bytes(u.to_bytes(32, "little"))
        with pytest.raises(ValueError):  # what would be agreed is all zero
            X25519PrivateKey.generate().exchange(point)

    @pytest.mark.parametrize("u", [*range(P, 2**255), *(SIGN | u for u in (2, 9, P - 2, 2**255 - 1))])
    def test_not_canonical(self, u: int) -> None:
        assert refused(seal.check_public_key, sealing_key(u))

    def test_a_neighbour_of_what_is_refused_is_none(self) -> None:
        seal.check_public_key(sealing_key(9), owner="clinic-1")

    @pytest.mark.parametrize(
        "key",
        [
            b"",
            bytes(1216),
            sealing_key(9)[:-1],
            sealing_key(9) + bytes(1),
            b"\xff" * 1184 + sealing_key(9)[1184:],  # coefficients of the other half not below 3329
        ],
        ids=["empty", "zero", "short", "long", "other half"],
    )
    def test_zero_wrong_lengths_and_the_other_half(self, key: bytes) -> None:
        assert refused(seal.check_public_key, key)

    @settings(max_examples=50, deadline=None)
    @given(st.binary(min_size=32, max_size=32))
    def test_an_honest_one_always_passes(self, key_root: bytes) -> None:
        seal.check_public_key(SealingKey(key_root).public_key, owner="clinic-1")


def test_what_people_compare_has_160_bits() -> None:
    shown = identity.fingerprint(MLKEM_HALF[:32])
    assert len(bytes.fromhex(shown)) * 8 == identity.FINGERPRINT_BITS == 160
    assert identity.fingerprint_bytes(MLKEM_HALF[:32]).startswith(bytes.fromhex(shown))
