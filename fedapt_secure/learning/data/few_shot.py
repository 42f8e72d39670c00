"""Keep N training images a class: the usual few-shot comparison, for experiments without privacy.

Whether an image is kept depends on the others: one more image may push another out. That is not what the
privacy guarantee counts (one record replaced, all others as they were), so `simulate` refuses it under
differential privacy. A choice made beforehand and written into a manifest is simply a small data set.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence

from fedapt_secure.learning.data.reading.images import open_rgb
from fedapt_secure.learning.data.reading.records import Record, is_test_record
from fedapt_secure.learning.data.reading.unusable import UnusableImage


def keep_few(records: Sequence[Record], shots: int) -> list[Record]:
    """Return all test images, and at most ``shots`` usable training images of each class.

    The choice follows from the files' content alone, not from a seed, a name or the order; an added image
    changes at most one other's fate. What cannot be read stays, to be counted where images are opened.

    Args:
        records: One institution's images.
        shots: N, at least 1.
    """
    candidates: list[tuple[bytes, str, int]] = []
    kept = set(range(len(records)))
    for index, record in enumerate(records):
        try:
            digest = hashlib.sha256(record.path.read_bytes()).digest()
        except OSError:
            continue
        if not is_test_record(record, digest):
            # Hashed again: the order must not be that of the hash which decided on the test images.
            candidates.append((hashlib.sha256(b"few-shot" + digest).digest(), record.name, index))
    taken: Counter[int] = Counter()
    for _, _, index in sorted(candidates):
        record = records[index]
        if taken[record.label] >= shots:
            kept.discard(index)
        elif _usable(record):
            taken[record.label] += 1
    return [records[index] for index in sorted(kept)]


def _usable(record: Record) -> bool:
    try:
        open_rgb(record.path.read_bytes())
    except (UnusableImage, OSError):
        return False
    return True
