"""One round of Flower's SecAgg+, as `secure_aggregation.py` and `wire.py` measure it; needs flwr."""

import statistics
from collections import defaultdict

import numpy as np
from flwr.client.mod.secure_aggregation.secaggplus_mod import (
    SecAggPlusState,
    _collect_masked_vectors,
    _setup,
    _share_keys,
    _unmask,
)
from flwr.common import bytes_to_ndarray, ndarrays_to_parameters
from flwr.common.secure_aggregation.crypto.shamir import combine_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import generate_shared_key
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    factor_extract,
    get_parameters_shape,
    parameters_addition,
    parameters_mod,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.quantization import dequantize
from flwr.common.secure_aggregation.secaggplus_constants import Key
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from flwr.supercore.primitives.asymmetric import bytes_to_private_key, bytes_to_public_key

from benchmarks.protocol.secagg_rounds import CLIP, Case, Parties, Timings, check_sum

FLOWER_QUANTIZATION = 1 << 22  # its workflow's defaults
FLOWER_MODULUS = 1 << 32


def flower_round(case: Case, parties: Parties) -> Timings:
    """Play Flower's SecAgg+ as its mod and its workflow do, with weight 1 for everybody."""
    timings, n = Timings(), case.institutions
    shares = n if case.neighbours is None else case.neighbours + 1
    around = {i: sorted({(i + o) % n for o in range(-(shares // 2), shares // 2 + 1)}) for i in range(n)}
    setup = {
        Key.SAMPLE_NUMBER: n,
        Key.SHARE_NUMBER: shares,
        Key.THRESHOLD: case.topology.share_threshold,
        Key.CLIPPING_RANGE: CLIP,
        Key.TARGET_RANGE: FLOWER_QUANTIZATION,
        Key.MOD_RANGE: FLOWER_MODULUS,
        Key.MAX_WEIGHT: 1.0,
    }
    states, public, inbox = {}, {}, defaultdict(list)
    fixed: dict[int, int] = defaultdict(int)
    for i in range(n):
        with timings.client(i):
            states[i] = SecAggPlusState(nid=i)
            answer = _setup(states[i], setup)
        public[i] = (answer[Key.PUBLIC_KEY_1], answer[Key.PUBLIC_KEY_2])
        fixed[i] += sum(map(len, public[i]))
    for i in range(n):
        keys = {str(j): public[j] for j in around[i]}
        with timings.client(i):
            answer = _share_keys(states[i], keys)
        with timings.coordinator("share"):
            for j, sealed in zip(answer[Key.DESTINATION_LIST], answer[Key.CIPHERTEXT_LIST], strict=True):
                inbox[j].append((i, sealed))
        fixed[i] += sum(map(len, answer[Key.CIPHERTEXT_LIST]))
    alive, total = range(n - 1), None
    for i in alive:
        update = ndarrays_to_parameters([parties.update(i)])
        forwarded = {
            Key.CIPHERTEXT_LIST: [sealed for _, sealed in inbox[i]],
            Key.SOURCE_LIST: [source for source, _ in inbox[i]],
        }
        with timings.client(i):
            masked = _collect_masked_vectors(states[i], forwarded, 1, update)[Key.MASKED_PARAMETERS]
        timings.value_bytes = sum(map(len, masked)) / case.length
        with timings.coordinator("masked_input"):
            arrays = [bytes_to_ndarray(data) for data in masked]
            total = arrays if total is None else parameters_addition(total, arrays)
    with timings.coordinator("masked_input"):
        total = parameters_mod(total, FLOWER_MODULUS)
    revealed: dict[int, list[bytes]] = defaultdict(list)
    for i in alive:
        request = {
            Key.ACTIVE_NODE_ID_LIST: [j for j in around[i] if j in alive],
            Key.DEAD_NODE_ID_LIST: [j for j in around[i] if j not in alive],
        }
        with timings.client(i):
            answer = _unmask(states[i], request)
        fixed[i] += sum(map(len, answer[Key.SHARE_LIST]))
        with timings.coordinator("unmask"):
            for owner, share in zip(answer[Key.NODE_ID_LIST], answer[Key.SHARE_LIST], strict=True):
                revealed[owner].append(share)
    with timings.coordinator("unmask"):
        result = flower_unmask(total, revealed, alive, around, public)
    timings.fixed_bytes = statistics.median(fixed.values())
    check_sum(result, parties.total(alive), n * 2 * CLIP / FLOWER_QUANTIZATION)
    timings.clients.pop(n - 1)
    return timings


def flower_unmask(
    masked: list[np.ndarray],
    revealed: dict[int, list[bytes]],
    alive: range,
    around: dict[int, list[int]],
    public: dict[int, tuple[bytes, bytes]],
) -> np.ndarray:
    """Return the sum, with the calls that Flower's ``SecAggPlusWorkflow.unmask_stage`` makes."""
    for owner, share_list in revealed.items():
        secret = combine_shares(share_list)
        shape = get_parameters_shape(masked)
        if owner in alive:
            masked = parameters_subtraction(masked, pseudo_rand_gen(secret, FLOWER_MODULUS, shape))
            continue
        for neighbour in around[owner]:
            if neighbour == owner:
                continue
            key = generate_shared_key(bytes_to_private_key(secret), bytes_to_public_key(public[neighbour][0]))
            mask = pseudo_rand_gen(key, FLOWER_MODULUS, shape)
            combine = parameters_addition if owner > neighbour else parameters_subtraction
            masked = combine(masked, mask)
    _, masked = factor_extract(parameters_mod(masked, FLOWER_MODULUS))
    [total] = dequantize(masked, CLIP, FLOWER_QUANTIZATION)
    total += -(len(alive) - 1) * CLIP
    return total
