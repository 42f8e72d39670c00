"""Rows in a mapped file: what they hold, what they cost, and what they leave behind."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedapt_crypto.errors import Unavailable
from fedapt_secure.learning.data.features import rows as feature_rows
from fedapt_secure.learning.data.features.rows import FeatureRows


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(1, 5), st.booleans())
@settings(deadline=None)
def test_the_rows_that_are_kept_are_those_that_were_written(tmp_path_factory, kept, chunk, mapped):
    values = np.arange(len(kept) * 3, dtype=np.float32).reshape(-1, 3)
    rows = FeatureRows(len(kept), 3, tmp_path_factory.getbasetemp() if mapped else None)
    backwards = np.arange(len(kept))[::-1].copy()
    rows[backwards] = values[backwards]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_rows, "_CHUNK_ROWS", chunk)
        found = rows.only(np.array(kept))
    assert found.dtype == torch.float32
    assert np.array_equal(found.numpy(), values[np.array(kept)])


def test_nothing_is_seen_in_the_folder(tmp_path):
    rows = FeatureRows(10, 3, tmp_path)
    rows[np.arange(10)] = np.ones((10, 3), np.float32)
    assert list(tmp_path.iterdir()) == []
    assert rows.only(np.ones(10, np.bool_)).sum() == 30


def test_a_full_disk_is_said_before_anything_is_written(tmp_path, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(feature_rows.os, "posix_fallocate", full)
    with pytest.raises(Unavailable, match="MiB of features .* No space left on device; make room"):
        FeatureRows(10, 3, tmp_path)


LIMITED = """
import resource
import sys
from pathlib import Path
import numpy as np
import torch
from fedapt_secure.learning.clip.backbone import load_backbone
from fedapt_secure.config.reading import AS_THEY_ARE
from fedapt_secure.learning.data.features import store as feature_store
from fedapt_secure.learning.data.features.encoding import Encoding, _identity
from fedapt_secure.learning.data.features.marks import ImageFile
from fedapt_secure.learning.data.features.shard import Shard

cache, count, limit_mib, keep = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "disk"
backbone = load_backbone()
backbone.feature_size = size = 768
store = feature_store.FeatureStore(cache, _identity(backbone, "plain", AS_THEY_ARE))
digests = [number.to_bytes(32, "big") for number in range(count)]
for start in range(0, count, 256):
    part = digests[start:start + 256]
    numbers = np.arange(start, start + len(part), dtype=np.float32)
    store.add(Shard(np.frombuffer(b"".join(part), np.uint8).reshape(-1, 32),
                    np.repeat(numbers[:, None], size, axis=1), np.ones(len(part), np.bool_), {}))
files = [ImageFile(Path("gone"), digest) for digest in reversed(digests)]

used = int(next(l for l in open("/proc/self/status") if l.startswith("VmData")).split()[1]) << 10
resource.setrlimit(resource.RLIMIT_DATA, (used + (limit_mib << 20),) * 2)
if keep:
    encoding = Encoding(files, backbone, cache, "plain", None)
    encoding.carry_out()
    features = encoding.features(encoding.usable_rows)
else:
    features = torch.zeros(count, size)
for batch in torch.randperm(count, generator=torch.Generator().manual_seed(0))[:20 * 256].split(256):
    assert torch.equal(features[batch][:, -1], (count - 1 - batch).float())
print("trained")
"""


@pytest.mark.integration
@pytest.mark.slow  # each writes a set larger than memory is allowed to be
@pytest.mark.parametrize(("where", "ends_well"), [("disk", True), ("memory", False)])
def test_a_set_larger_than_the_memory_allowed_is_read_and_indexed(tmp_path, where, ends_well):
    """400 MiB of features under a limit of 64 MiB more than the process has; in memory that cannot work."""
    count = 400 * 2**20 // (768 * 4)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "cache"), str(count), "64", where],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert (done.returncode == 0) is ends_well, done.stderr
    assert ends_well == (done.stdout == "trained\n")
    if not ends_well:
        assert "memory" in done.stderr
