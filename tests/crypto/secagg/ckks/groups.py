"""Group keys for tests: one secret context and two worker processes serve the whole test run.

Every call makes new `GroupKey` objects around them, so rounds, budgets and burned keys stay apart.
"""

import functools
from collections.abc import Mapping

import numpy as np

from fedapt_crypto.roster import Roster
from fedapt_crypto.secagg.ckks.flooding import DEFAULT_DECRYPTIONS
from fedapt_crypto.secagg.ckks.frames import Operation
from fedapt_crypto.secagg.ckks.group import GroupKey, PublicGroup
from fedapt_crypto.secagg.ckks.process import Worker
from fedapt_crypto.secagg.group_secret import GroupSecret
from fedapt_crypto.secagg.scheme import RoundContext
from fedapt_crypto.secagg.tags import tag_to_bytes
from fedapt_crypto.sum_tag import PRIME

TEST_SECRET = bytes(range(32))
"""Known to everybody: what does not open here does not for want of it."""


class SharedWorker(Worker):
    """A worker that a burned key leaves to the other tests."""

    def close(self) -> None:
        pass


@functools.cache
def contexts() -> tuple[bytes, bytes]:
    """Serialized context with the secret key, and without."""
    maker = Worker()
    secret, public = maker.call(Operation.NEW)
    maker.close()
    return secret, public


@functools.cache
def secret_worker() -> Worker:
    return SharedWorker(contexts()[0])


@functools.cache
def public_worker() -> Worker:
    return SharedWorker(contexts()[1])


def make_groups(
    roster: Roster, session: bytes, decryptions: int = DEFAULT_DECRYPTIONS
) -> tuple[dict[str, GroupKey], PublicGroup]:
    """Return every institution's key and the coordinator's part."""
    secret_context, public_context = contexts()
    keys = {
        name: GroupKey(
            secret=GroupSecret(session, TEST_SECRET),
            decryptions=decryptions,
            public_context=public_context,
            secret_context=secret_context,
            worker=secret_worker(),
        )
        for name in roster.names
    }
    public = PublicGroup(
        commitment=GroupSecret(session, TEST_SECRET).commitment,
        decryptions=decryptions,
        public_context=public_context,
        worker=public_worker(),
    )
    return keys, public


def summed(
    context: RoundContext,
    keys: Mapping[str, GroupKey],
    public: PublicGroup,
    updates: Mapping[str, np.ndarray],
) -> tuple[list[bytes], bytes]:
    """Return the sum of updates, encrypted with these keys, and its tag."""
    total: list[bytes] = []
    tag = 0
    for name, key in keys.items():
        pieces, own = key.encrypt(context, name, context.fixed_point.encode(updates[name])[0])
        total = public.add(total, pieces, name)
        tag = (tag + int.from_bytes(own)) % PRIME
    return total, tag_to_bytes(tag)
