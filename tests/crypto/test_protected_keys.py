"""Keys under a passphrase: what was protected comes back, and nothing else does."""

import pytest
from cryptography.hazmat.primitives import serialization

from fedapt_crypto import protected_keys
from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.pki import TlsKey
from fedapt_crypto.protected_keys import Passphrase

SECRET = bytes(range(32))
TEXT = "correct horse battery"
REAL_LOG2_COST = protected_keys._LOG2_COST


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cost is read from the file: tests take a small one."""
    monkeypatch.setattr(protected_keys, "_LOG2_COST", 4)


class TestRawKeys:
    def test_it_comes_back_under_the_passphrase(self) -> None:
        data = protected_keys.protect(SECRET, "identity.key", Passphrase(TEXT))
        assert protected_keys.is_protected(data)
        assert SECRET not in data
        assert protected_keys.unprotect(data, "identity.key", Passphrase(TEXT)) == SECRET

    def test_not_under_another_one_nor_for_another_purpose(self) -> None:
        data = protected_keys.protect(SECRET, "identity.key", Passphrase(TEXT))
        for purpose, text in (("identity.key", TEXT + " "), ("sealing.key", TEXT), ("identity.key", "")):
            with pytest.raises(InvalidInput, match="the passphrase is wrong"):
                protected_keys.unprotect(data, purpose, Passphrase(text))

    def test_every_changed_byte_is_noticed(self) -> None:
        data = protected_keys.protect(SECRET, "identity.key", Passphrase(TEXT))
        passphrase = Passphrase(TEXT)
        for index in range(len(data)):
            changed = data[:index] + bytes((data[index] ^ 1,)) + data[index + 1 :]
            with pytest.raises(InvalidInput):
                protected_keys.unprotect(changed, "identity.key", passphrase)
        for length in range(len(data)):
            with pytest.raises(InvalidInput):
                protected_keys.unprotect(data[:length], "identity.key", passphrase)

    @pytest.mark.parametrize("cost", [0, 21, 63, 255])
    def test_a_file_cannot_ask_for_any_cost(self, cost: int) -> None:
        data = bytearray(protected_keys.protect(SECRET, "identity.key", Passphrase(TEXT)))
        data[data.index(b"\n") + 1] = cost
        with pytest.raises(InvalidInput, match="not a protected key file"):
            protected_keys.unprotect(bytes(data), "identity.key", Passphrase(TEXT))

    def test_no_two_files_are_alike(self) -> None:
        passphrase = Passphrase(TEXT)
        files = {protected_keys.protect(SECRET, "identity.key", passphrase) for _ in range(8)}
        assert len(files) == 8


class TestTlsKeys:
    def test_it_comes_back_through_openssl_s_own_format(self) -> None:
        key = TlsKey.generate()
        data = protected_keys.protect_pem(key, "tls.key", Passphrase(TEXT))
        assert protected_keys.is_protected(data)
        password = protected_keys.pem_password(data, "tls.key", Passphrase(TEXT))
        assert TlsKey.from_pem(data, password).public_key == key.public_key

    def test_the_passphrase_itself_does_not_open_it(self) -> None:
        """PKCS#8's own derivation is too cheap to stand between a thief and the passphrase."""
        data = protected_keys.protect_pem(TlsKey.generate(), "tls.key", Passphrase(TEXT))
        with pytest.raises(ValueError):
            serialization.load_pem_private_key(data, TEXT.encode())

    def test_another_passphrase_or_purpose_does_not_open_it(self) -> None:
        data = protected_keys.protect_pem(TlsKey.generate(), "tls.key", Passphrase(TEXT))
        for purpose, text in (("tls.key", "another one"), ("ca.key", TEXT)):
            password = protected_keys.pem_password(data, purpose, Passphrase(text))
            with pytest.raises(InvalidInput, match="passphrase is wrong"):
                TlsKey.from_pem(data, password)
        with pytest.raises(InvalidInput, match="protected by a passphrase"):
            TlsKey.from_pem(data)

    def test_one_of_another_program_is_not_guessed_at(self) -> None:
        foreign = TlsKey.generate().private_pem(b"password")
        with pytest.raises(InvalidInput, match="not a protected key file of this program"):
            protected_keys.pem_password(foreign, "tls.key", Passphrase(TEXT))

    @pytest.mark.parametrize("content", [b"", b"rubbish"])
    def test_what_is_no_key(self, content: bytes) -> None:
        with pytest.raises(InvalidInput, match="not a private key"):
            TlsKey.from_pem(content)


class TestPassphrases:
    def test_a_short_one_is_refused(self) -> None:
        with pytest.raises(InvalidInput, match="at least 10 characters"):
            Passphrase("too short").require_strength()
        Passphrase("long enough").require_strength()

    def test_it_is_never_shown(self) -> None:
        assert TEXT not in repr(Passphrase(TEXT)) + str(Passphrase(TEXT))


def test_the_real_cost_is_what_it_says() -> None:
    """2^17 blocks of 1 KiB; a mistake here would be silent."""
    assert REAL_LOG2_COST == 17
