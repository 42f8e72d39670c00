"""Keystream, key derivation, identities, sealing, Shamir and fixed point, each against a slow truth."""

import hashlib
import hmac
from fractions import Fraction

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fedapt_crypto import domain_keys, kdf, shamir
from fedapt_crypto.encoding import encode
from fedapt_crypto.errors import InvalidInput, VerificationFailed
from fedapt_crypto.fixed_point import FixedPoint
from fedapt_crypto.identity import Identity, fingerprint, verify
from fedapt_crypto.keystream import CHUNK_VALUES, Keystream
from fedapt_crypto.masks import apply_masks
from fedapt_crypto.private_files import make_private_folder, read_private, write_atomically
from fedapt_crypto.roster import Roster, threshold
from fedapt_crypto.seal import OVERHEAD_BYTES, SealingKey, seal
from tests.crypto.secagg.harness import make_parties

SECRETS = st.binary(min_size=32, max_size=32)


class TestKeystream:
    def test_known_answer(self) -> None:
        # NIST SP 800-38A has no zero counter; the truth here is AES-256 of the counter blocks, one by one.
        key = bytes(range(32))
        ecb = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
        expected = b"".join(ecb.update(i.to_bytes(16)) for i in range(4))
        assert Keystream(key).uniform_words(64, np.uint8).tobytes() == expected

    @given(st.lists(st.integers(1, 70), min_size=1, max_size=6))
    def test_pieces_continue_the_stream(self, sizes: list[int]) -> None:
        whole = Keystream(bytes(32)).uniform_words(sum(sizes), np.uint8)
        stream = Keystream(bytes(32))
        pieces = np.concatenate([stream.uniform_words(size, np.uint8) for size in sizes])
        assert np.array_equal(whole, pieces)

    def test_longer_than_a_chunk(self) -> None:
        words = Keystream(bytes(32)).uniform_words(CHUNK_VALUES + 5, np.uint32)
        tail = Keystream(bytes(32)).uniform_words(CHUNK_VALUES + 5, np.uint32)[-5:]
        assert np.array_equal(words[-5:], tail)
        assert len(np.unique(words[-5:])) == 5

    @given(st.integers(0, 40), st.integers(0, 40))
    def test_it_begins_at_any_block(self, block: int, size: int) -> None:
        whole = Keystream(bytes(32)).uniform_words(16 * block + size, np.uint8)
        later = Keystream(bytes(32), first=16 * block).uniform_words(size, np.uint8)
        assert np.array_equal(whole[16 * block :], later)
        with pytest.raises(ValueError, match="multiple of 16"):
            Keystream(bytes(32), first=16 * block + 1 + size % 15)

    def test_key_is_hidden_and_checked(self) -> None:
        assert "hidden" in repr(Keystream(bytes(32)))
        with pytest.raises(ValueError, match="32 bytes"):
            Keystream(bytes(16))

    def test_operating_system_keys_differ(self) -> None:
        first, second = (Keystream.from_operating_system().uniform_words(4) for _ in range(2))
        assert not np.array_equal(first, second)


class TestMasks:
    @given(st.integers(1, 50), st.lists(st.tuples(SECRETS, st.sampled_from([1, -1])), max_size=4))
    def test_masks_cancel(self, size: int, keys: list[tuple[bytes, int]]) -> None:
        start = np.arange(size, dtype=np.uint32)
        vector = start.copy()
        apply_masks(vector, keys)
        apply_masks(vector, [(key, -sign) for key, sign in keys])
        assert np.array_equal(vector, start)

    def test_against_python_integers_over_chunks(self) -> None:
        size = CHUNK_VALUES + 3
        vector = np.full(size, 2**32 - 1, np.uint32)
        mask = Keystream(bytes(32)).uniform_words(size, np.uint32)
        apply_masks(vector, [(bytes(32), 1)])
        for index in (0, 1, CHUNK_VALUES - 1, CHUNK_VALUES, size - 1):
            assert int(vector[index]) == (2**32 - 1 + int(mask[index])) % 2**32


class TestDerivation:
    def test_hkdf_against_rfc_5869_by_hand(self) -> None:
        secret, info = bytes(range(32)), kdf.labelled("label", b"part")
        pseudo_random_key = hmac.new(bytes(32), secret, hashlib.sha256).digest()
        first = hmac.new(pseudo_random_key, info + b"\x01", hashlib.sha256).digest()
        assert kdf.derive(secret, "label", b"part") == first

    def test_parts_do_not_run_into_each_other(self) -> None:
        spellings = [
            ("l", b"ab", b"c"),
            ("l", b"a", b"bc"),
            ("l", b"abc"),
            ("l", "ab", b"c"),
            ("la", b"b", b"c"),
        ]
        assert len({kdf.digest(label, *parts) for label, *parts in spellings}) == len(spellings)

    def test_digest_is_sha256_of_the_encoding(self) -> None:
        assert kdf.digest("x", 1) == hashlib.sha256(encode(["fedapt-secure/1", "x", 1])).digest()


class TestIdentity:
    def test_signatures_are_bound_to_label_parts_and_key(self) -> None:
        identity = Identity.generate()
        signature = identity.sign("purpose", b"a", 1)
        verify(identity.public_key, signature, "purpose", b"a", 1, signer="x")
        others = [
            (identity.public_key, signature, "other", (b"a", 1)),
            (identity.public_key, signature, "purpose", (b"a", 2)),
            (Identity.generate().public_key, signature, "purpose", (b"a", 1)),
            (identity.public_key, bytes(64), "purpose", (b"a", 1)),
            (identity.public_key[:-1], signature, "purpose", (b"a", 1)),
        ]
        for key, signed, label, parts in others:
            with pytest.raises(VerificationFailed, match="x:"):
                verify(key, signed, label, *parts, signer="x")

    def test_private_bytes_restore_the_identity_and_stay_hidden(self) -> None:
        identity = Identity.generate()
        assert Identity.from_private_bytes(identity.private_bytes()).public_key == identity.public_key
        assert identity.private_bytes().hex() not in repr(identity)
        assert len(fingerprint(identity.public_key).split()) == 10


class TestSeal:
    def test_opens_only_for_the_receiver_and_the_same_info(self) -> None:
        key = SealingKey(bytes(32))
        sealed = seal(key.public_key, b"seed", "info", 1)
        assert key.open(sealed, "info", 1) == b"seed"
        assert len(sealed) == OVERHEAD_BYTES + 4
        for other, info in ((SealingKey.fresh(), ("info", 1)), (key, ("info", 2))):
            with pytest.raises(VerificationFailed):
                other.open(sealed, *info)

    @settings(max_examples=30)
    @given(st.integers(0, OVERHEAD_BYTES + 3), st.integers(1, 255))
    def test_any_changed_byte_is_noticed(self, position: int, change: int) -> None:
        key = SealingKey(bytes(32))
        sealed = bytearray(seal(key.public_key, b"seed", "info"))
        sealed[position] ^= change
        with pytest.raises(VerificationFailed):
            key.open(bytes(sealed), "info")

    @pytest.mark.parametrize("sealed", [b"", b"x", bytes(OVERHEAD_BYTES)])
    def test_rubbish_is_refused(self, sealed: bytes) -> None:
        with pytest.raises(VerificationFailed):
            SealingKey(bytes(32)).open(sealed, "info")

    @pytest.mark.parametrize("public_key", [b"", bytes(1216), b"\xff" * 1216, bytes(1215)])
    def test_a_bad_public_key_is_refused(self, public_key: bytes) -> None:
        with pytest.raises(VerificationFailed):
            seal(public_key, b"seed", "info")

    def test_deterministic_from_its_root(self) -> None:
        assert SealingKey(bytes(32)).public_key == SealingKey(bytes(32)).public_key
        assert SealingKey(bytes(32)).public_key != SealingKey(b"\x01" * 32).public_key


class TestShamir:
    def test_the_field_is_prime(self) -> None:
        for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29):
            assert pow(base, shamir.PRIME - 1, shamir.PRIME) == 1

    @given(SECRETS, st.integers(1, 7), st.integers(0, 4), st.randoms())
    def test_any_threshold_of_shares_gives_the_secret(self, secret, t, more, random) -> None:
        indices = random.sample(range(1, 40), t + more)
        shares = shamir.split(secret, t, indices)
        chosen = random.sample(indices, t)
        assert shamir.combine({i: shares[i] for i in chosen}) == secret

    def test_fewer_shares_fit_every_secret(self) -> None:
        # t - 1 shares and any claimed secret lie on one polynomial: nothing is learnt.
        shares = shamir.split(b"\x07" * 32, 3, [1, 2, 3])
        for claimed in (bytes(32), b"\xff" * 32):
            points = {0: int.from_bytes(claimed), 1: int.from_bytes(shares[1]), 2: int.from_bytes(shares[2])}
            third = _interpolate(points, 3).to_bytes(shamir.SHARE_BYTES)
            assert shamir.combine({1: shares[1], 2: shares[2], 3: third}) == claimed

    @pytest.mark.parametrize(("t", "indices"), [(0, [1]), (3, [1, 2]), (2, [1, 1]), (1, [0])])
    def test_bad_sizes(self, t: int, indices: list[int]) -> None:
        with pytest.raises(ValueError, match="indices"):
            shamir.split(bytes(32), t, indices)

    def test_bad_shares(self) -> None:
        with pytest.raises(ValueError, match="field element"):
            shamir.combine({1: bytes(32)})
        with pytest.raises(ValueError, match="field element"):
            shamir.combine({1: b"\xff" * 33})


def _interpolate(points: dict[int, int], x: int) -> int:
    total = 0
    for i, y in points.items():
        numerator = denominator = 1
        for j in points:
            if j != i:
                numerator = numerator * (x - j) % shamir.PRIME
                denominator = denominator * (i - j) % shamir.PRIME
        total += y * numerator * pow(denominator, -1, shamir.PRIME)
    return total % shamir.PRIME


class TestFixedPoint:
    @given(
        st.integers(1, 1000),
        st.floats(1e-3, 1e3),
        st.lists(st.floats(-2000, 2000), min_size=1, max_size=6),
    )
    def test_a_sum_of_n_never_wraps_and_is_within_half_a_step_each(self, n, clip, values) -> None:
        fixed = FixedPoint(n, clip)
        encoded, saturated = fixed.encode(np.array(values))
        total = (encoded.astype(np.uint64) * n % 2**32).astype(np.uint32)
        represented = np.clip(
            np.array(values), -fixed.limit * fixed.resolution, fixed.limit * fixed.resolution
        )
        assert np.all(np.abs(fixed.decode(total) - n * represented) <= n * fixed.resolution / 2 * (1 + 1e-9))
        assert saturated == np.count_nonzero(
            np.abs(np.rint(np.array(values) / fixed.resolution)) > fixed.limit
        )

    @pytest.mark.parametrize("n", [1, 2, 3, 5, 64, 1000])
    def test_the_bound_holds_at_its_edge(self, n: int) -> None:
        fixed = FixedPoint(n, 4.0)
        largest = np.array([fixed.limit, -fixed.limit]) * fixed.resolution
        encoded, saturated = fixed.encode(largest)
        assert saturated == 0
        total = sum(int(encoded[0]) for _ in range(n))
        assert total <= 2**31 - 1, "n values at the limit stay in the ring's positive half"
        assert fixed.limit * fixed.resolution >= 4.0
        _, saturated = fixed.encode(largest * 1.01)
        assert saturated == 2

    def test_the_largest_fraction_that_fits(self) -> None:
        fixed = FixedPoint(5, 4.0)
        assert 4.0 / fixed.resolution <= fixed.limit < 4.0 / (fixed.resolution / 2)

    @pytest.mark.parametrize(
        ("n", "clip", "bits"), [(1000, 2097.1513671875005, 9), (4, 511.99999904632574, 19)]
    )
    def test_the_largest_fraction_is_exact_at_an_edge(self, n: int, clip: float, bits: int) -> None:
        assert FixedPoint(n, clip).fraction_bits == bits

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_not_finite_is_refused(self, dtype: type) -> None:
        for value in (np.nan, np.inf, -np.inf):
            with pytest.raises(ValueError, match="not finite"):
                FixedPoint(3, 1.0).encode(np.array([0.5, value, 6e4], dtype))

    @given(
        st.integers(1, 1000),
        st.floats(1e-3, 1e3),
        st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=9),
    )
    def test_single_precision_encodes_as_double(self, n: int, clip: float, values: list[float]) -> None:
        fixed, single = FixedPoint(n, clip), np.array(values, np.float32)
        words, saturated = fixed.encode(single)
        expected, expected_saturated = fixed.encode(single.astype(np.float64))
        assert np.array_equal(words, expected)
        assert saturated == expected_saturated
        assert expected.tolist() == [
            max(-fixed.limit, min(fixed.limit, round(Fraction(v) / Fraction(fixed.resolution)))) % 2**32
            for v in values
        ]


class TestDomainKeys:
    def test_seal_check_expand(self) -> None:
        key, seed, session = SealingKey.fresh(), domain_keys.draw_seed(), bytes(16)
        sealed = domain_keys.seal_seed(seed, key.public_key, session, 2, "clinic-1")
        opened = domain_keys.open_seed(sealed, key, session, 2, "clinic-1")
        domain_keys.check_seed(opened, session, 2, domain_keys.commitment(seed, session, 2))
        with pytest.raises(VerificationFailed):
            domain_keys.open_seed(sealed, key, session, 2, "clinic-2")
        with pytest.raises(VerificationFailed):
            domain_keys.check_seed(opened, session, 1, domain_keys.commitment(seed, session, 2))

    def test_values_are_uniform_in_the_half_open_unit_interval(self) -> None:
        values = domain_keys.expand(bytes(32), bytes(16), 0, (100, 1000), None)
        assert values.dtype == np.float32
        assert values.min() >= 0
        assert values.max() < 1
        counts, _ = np.histogram(values, bins=20, range=(0, 1))
        expected = values.size / 20
        # chi-square with 19 degrees of freedom; the seed is fixed, so this cannot flicker
        assert ((counts - expected) ** 2 / expected).sum() < 43.8

    def test_bound_to_seed_and_domain(self) -> None:
        seeds = (bytes(32), b"\x01" * 32)
        expansions = [
            domain_keys.expand(seed, bytes(16), d, (2, 3), None).tobytes() for seed in seeds for d in (0, 1)
        ]
        assert len(set(expansions)) == 4

    def test_experiments_can_be_repeated(self) -> None:
        assert domain_keys.experiment_seed(3, 1) == domain_keys.experiment_seed(3, 1)
        assert len({domain_keys.experiment_seed(n, d) for n in (0, 1) for d in (0, 1)}) == 4


class TestRoster:
    @pytest.mark.parametrize(("n", "t"), [(3, 3), (4, 3), (5, 4), (7, 5), (10, 7)])
    def test_threshold(self, n: int, t: int) -> None:
        assert threshold(n) == t

    def test_names_and_keys_are_distinct(self) -> None:
        roster, _ = make_parties(2)
        for twice in (roster.members[0], roster.members[1].model_copy(update={"name": "clinic-1"})):
            with pytest.raises(ValueError, match="distinct"):
                Roster(
                    authority_fingerprint=bytes(32),
                    coordinator_key=roster.coordinator_key,
                    members=(roster.members[0], twice),
                )
        with pytest.raises(InvalidInput, match="not on the roster"):
            roster.member("stranger")

    def test_the_coordinators_name_is_its_own(self) -> None:
        roster, _ = make_parties(2)
        assert roster.identity_key("coordinator") == roster.coordinator_key
        assert roster.identity_key("clinic-1") == roster.members[0].identity_key
        with pytest.raises(InvalidInput, match="not on the roster"):
            roster.identity_key("stranger")
        named = roster.members[0].model_copy(update={"name": "coordinator"})
        with pytest.raises(ValidationError, match="coordinator"):
            Roster(authority_fingerprint=bytes(32), coordinator_key=roster.coordinator_key, members=(named,))


class TestPrivateFiles:
    def test_modes(self, tmp_path) -> None:
        folder = make_private_folder(tmp_path / "a" / "b")
        path = folder / "key"
        write_atomically(path, b"secret")
        assert folder.stat().st_mode & 0o777 == 0o700
        assert path.stat().st_mode & 0o777 == 0o600
        assert read_private(path) == b"secret"
        assert [p.name for p in folder.iterdir()] == ["key"]
        path.chmod(0o640)
        with pytest.raises(InvalidInput, match="chmod 600"):
            read_private(path)

    def test_missing(self, tmp_path) -> None:
        with pytest.raises(InvalidInput, match="No such file"):
            read_private(tmp_path / "none")
