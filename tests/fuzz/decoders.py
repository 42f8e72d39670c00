"""Every decoder that takes bytes from the network, by name; `decoding_bombs` has those of files besides."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from fedapt_crypto.encoding import Message, decode_one_of
from fedapt_crypto.merkle import check_proof
from fedapt_crypto.secagg.institution_machine import kinds_due
from fedapt_crypto.secagg.masking import coordinator as masking_coordinator
from fedapt_crypto.secagg.masking import institution as masking_institution
from fedapt_crypto.secagg.masking import messages, parties
from fedapt_crypto.secagg.masking.masked_input import MaskedPayload
from fedapt_crypto.secagg.masking.neighbourhood import split_digests
from fedapt_crypto.secagg.masking.records import (
    Record,
    read_pair_seed,
    read_shares,
    split_parcels,
    split_records,
)
from fedapt_secure.log import heads, line
from fedapt_secure.protocol.joining import enrolment
from fedapt_secure.protocol.messages import FROM_COORDINATOR, FROM_INSTITUTION, MAX_FRAME_BYTES
from fedapt_secure.protocol.session import SessionConfiguration

Decoder = Callable[[bytes], object]
ROSTER_SIZE = 5
MASKED_VALUES = 9
"""Values in a vector of the corpus, and of a round in `live`."""


def _subclasses(cls: type[Message]) -> Iterator[type[Message]]:
    for child in cls.__subclasses__():
        yield child
        yield from _subclasses(child)


def message_classes() -> Sequence[type[Message]]:
    """Return every message that there is, of all rooms, by name; those that others build on are none.

    Classes of tests do not count, neither as messages nor as what is built on one.
    """
    classes = {cls for cls in _subclasses(Message) if cls.__module__.startswith("fedapt_")}
    bases = {base for cls in classes for base in cls.__mro__[1:]}
    return sorted(classes - bases, key=lambda cls: cls.__name__)


def _records(data: bytes) -> object:
    records = [Record.from_bytes(record) for record in split_records(data)]
    assert b"".join(record.to_bytes() for record in records) == data
    return records


def _parcels(data: bytes) -> object:
    """Read how long three dealers' lists are, and a parcel from each."""
    parcels = split_parcels(data[3:], data[:3])
    assert data[:3] + b"".join(parcel.to_bytes() for parcel in parcels) == data
    return parcels


def _shares(data: bytes) -> object:
    return read_shares(data, bytes(32), 1, 2)


def _pair_seed(data: bytes) -> object:
    return read_pair_seed(data, bytes(32), 1, 2)


def _proof(data: bytes) -> object:
    """Read a root, a position, a count, and siblings up to the leaf, which is the rest."""
    root, position, count, siblings = data[:32], data[32:33], data[33:34], data[34:-1]
    proof = [siblings[start : start + 32] for start in range(0, len(siblings), 32)]
    return check_proof(root, data[-1:], int.from_bytes(position), int.from_bytes(count), proof)


def _log_line(data: bytes) -> object:
    return line.parse_line(data, "fuzzed")


def _log_body(read: Callable[[line.JsonBody], object]) -> Decoder:
    def decode(data: bytes) -> object:
        return read(line.parse_line(data, "fuzzed").body)

    return decode


def _digests(data: bytes) -> object:
    indices = parties.unpack(data[:8], ROSTER_SIZE)
    return split_digests(data[8:], indices)


DECODERS: Mapping[str, Decoder] = {
    "from-institution": lambda data: decode_one_of(data, FROM_INSTITUTION, max_bytes=MAX_FRAME_BYTES),
    "from-coordinator": lambda data: decode_one_of(data, FROM_COORDINATOR, max_bytes=MAX_FRAME_BYTES),
    "from-applicant": lambda data: decode_one_of(
        data, enrolment.FROM_INSTITUTION, max_bytes=enrolment.MAX_REQUEST_FRAME_BYTES
    ),
    "from-enrolment-desk": lambda data: decode_one_of(
        data, enrolment.FROM_COORDINATOR, max_bytes=enrolment.MAX_ANSWER_FRAME_BYTES
    ),
    "enrolment-files": lambda data: decode_one_of(
        data, enrolment.FILES, max_bytes=enrolment.MAX_ANSWER_FRAME_BYTES
    ),
    "masking-to-coordinator": lambda data: decode_one_of(
        data, masking_coordinator._KINDS, max_bytes=messages.MAX_SHARE_MESSAGE_BYTES
    ),
    "masking-to-institution": lambda data: decode_one_of(
        data, kinds_due(masking_institution._TRANSITIONS), max_bytes=messages.MAX_SHARE_MESSAGE_BYTES
    ),
    "masked-input": lambda data: MaskedPayload.from_bytes(data, MASKED_VALUES, "clinic-2"),
    "session-configuration": SessionConfiguration.from_bytes,
    "records": _records,
    "parcels": _parcels,
    "shares": _shares,
    "pair-seed": _pair_seed,
    "parties": lambda data: parties.unpack(data, ROSTER_SIZE),
    "digests": _digests,
    "merkle-proof": _proof,
    "log-line": _log_line,
    "rounds": heads.unpack_rounds,
    "log-witnessed": _log_body(heads.read_witnessed),
    "log-closed": _log_body(heads.read_closed),
    "log-header": lambda data: line.read_header(line.parse_line(data, "fuzzed"), "fuzzed"),
    **{f"message-{cls.__name__}": cls.from_bytes for cls in message_classes()},
}
"""Name to decoder; a name is also the folder of its seeds in ``corpus``."""
