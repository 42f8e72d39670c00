"""TenSEAL is an extra; without it these tests are not collected."""

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("tenseal") else ["test_*.py"]
