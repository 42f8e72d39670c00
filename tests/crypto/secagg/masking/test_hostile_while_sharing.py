"""The hostile parties of the other suites once more, while parties share what pure functions return."""

from collections.abc import Iterator

import pytest

from fedapt_crypto.sharing import sharing
from tests.crypto.secagg.masking.test_hostile import *  # noqa: F403
from tests.crypto.secagg.masking.test_hostile_institution import *  # noqa: F403

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _while_sharing() -> Iterator[None]:
    with sharing():
        yield
