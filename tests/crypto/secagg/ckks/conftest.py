"""TenSEAL is an extra; without it these tests are not collected."""

import importlib.util

import pytest

from fedapt_crypto.secagg.ckks import process
from tests.conftest import COLD

collect_ignore_glob = [] if importlib.util.find_spec("tenseal") else ["test_*.py"]


@pytest.fixture(autouse=True, scope="package")
def workers_start_as_they_do_outside_tests(request: pytest.FixtureRequest) -> object:
    """Elsewhere they are forked from a process that has loaded TenSEAL, see `tests.support.warm`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "_COMMAND", request.config.stash[COLD])
        yield
