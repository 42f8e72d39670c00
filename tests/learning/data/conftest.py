"""Here digits are dealt each time anew: it is what the tests are about."""

from collections.abc import Iterator

import pytest

from fedapt_secure.learning.data.digits.scans import write_digits


@pytest.fixture(scope="module", autouse=True)
def _digits_are_written_anew() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fedapt_secure.learning.data.dealing.write_digits", write_digits)
        yield
