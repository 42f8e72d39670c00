"""The one byte encoding of messages: canonical msgpack, decoded strictly into frozen pydantic models.

Decoding goes from cheap checks to dear ones: size cap, what the decoded values would take in memory, msgpack
with bounded containers, strict model, and last that encoding the result again gives the same bytes. The last
check rules out leftovers, repeated map keys, unsorted or unknown fields and non-minimal numbers in one
stroke, so a signature over an encoded message covers the only spelling that message has.

A peer chooses what is decoded, so memory is bounded before anything is built (`decoding_cost`): one byte of
msgpack can be a map of 64 bytes here. And validation ends at the first item of an array that does not hold,
since each would be an error of a kilobyte.
"""

import struct
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, Union, get_args, get_origin

import msgpack
from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema

from fedapt_crypto import decoding_cost
from fedapt_crypto.errors import MalformedMessage
from fedapt_crypto.sharing import shared

DEFAULT_MAX_BYTES = 1 << 20
MAX_CONTAINER_ITEMS = 4096
MAX_FIELDS = 64
"""Of one map; no message has as many."""
LONG_BYTES = 1 << 16
_FIXED_MAP_ITEMS = 15  # up to here the header of a map is one byte
_BUFFER_BYTES = 4096  # the packer's default of 256 KiB costs more than the packing
_SCALARS = frozenset((bytes, str, int, bool, float, type(None)))
_ARRAYS = ("tuple", "list")
_SIGNATURE = "signature"
_FOREIGN_KEY = frozenset({"extra_forbidden", "invalid_key"})
_ENCODED = "_encoded"
"""Where a message keeps its encoding, beside its fields; not a field, so it counts in no comparison."""

Hash = Annotated[bytes, Field(min_length=32, max_length=32)]
"""A SHA-256 value."""
Signature = Annotated[bytes, Field(min_length=64, max_length=64)]
"""An Ed25519 signature."""
PartyName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
"""An institution's or the coordinator's name; safe in file names, certificates and logs."""


def encode(value: Any) -> bytes:
    """Return the canonical msgpack bytes of plain values and messages: maps sorted by key, no extensions."""
    pieces: list[bytes] = []
    _write(value, pieces)
    return b"".join(pieces)


def encode_plain(value: Any) -> bytes:
    """Return what `encode` does for a short value without maps and messages in it, several times faster."""
    packed: bytes = msgpack.Packer(use_bin_type=True, buf_size=_BUFFER_BYTES).pack(value)
    return packed


class Encoded(bytes):
    """The encoding of a value, to stand in a larger one in that value's place."""

    @classmethod
    def array(cls, items: Collection[bytes]) -> "Encoded":
        """Return the encoding of an array from the encodings of its items."""
        return cls(_array_header(len(items)) + b"".join(items))


def _write(value: Any, pieces: list[bytes]) -> None:
    """Append the encoding of ``value``; long byte strings are copied once, when all is joined."""
    if type(value) is bytes:
        size = len(value)
        pieces.append(bytes((0xC4, size)) if size < 1 << 8 else _header(0xC5, size))
        pieces.append(value)
    elif type(value) is Encoded:
        pieces.append(value)
    elif isinstance(value, (list, tuple)):
        pieces.append(_array_header(len(value)))
        for item in value:
            _write(item, pieces)
    elif isinstance(value, Message):
        pieces.append(value.to_bytes())
    elif isinstance(value, BaseModel):
        _write(value.model_dump(mode="python"), pieces)
    elif isinstance(value, Mapping):
        ordered = {key: value[key] for key in sorted(value)}
        if all(_is_short(item) for item in ordered.values()):
            pieces.append(encode_plain(ordered))
            return
        pieces.append(bytes((0x80 | len(value),)) if len(value) < 16 else _header(0xDE, len(value)))
        for key, item in ordered.items():
            _write(key, pieces)
            _write(item, pieces)
    else:
        pieces.append(encode_plain(value))


def _is_short(value: Any) -> bool:
    return type(value) in _SCALARS and not (type(value) is bytes and len(value) > LONG_BYTES)


def _array_header(size: int) -> bytes:
    return bytes((0x90 | size,)) if size < 16 else _header(0xDC, size)


def _header(code: int, size: int) -> bytes:
    """Return a header with a size of 16 bits, or under the next code one of 32 bits."""
    return struct.pack(">BH", code, size) if size < 1 << 16 else struct.pack(">BI", code + 1, size)


def _fail_fast(schema: Any) -> None:
    """Say of all arrays in a schema that their first item which does not hold is the last one looked at."""
    for inner in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(inner, (dict, list, tuple)):
            _fail_fast(inner)
    if isinstance(schema, dict) and schema.get("type") in _ARRAYS:
        schema["fail_fast"] = True


class FailFast(BaseModel):
    """A model whose validation ends at the first item of an array that does not hold: each costs 1 KiB."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Say so of every array in it."""
        schema = handler(source)
        _fail_fast(schema)
        return schema


class Message(FailFast):
    """A frozen message with one encoding.

    Subclasses may raise `max_bytes`; what is longer is refused before it is parsed. With `same_for_all` they
    say that everybody gets the same bytes: parties of a simulation then share what is parsed, see `sharing`.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", hide_input_in_errors=True)
    max_bytes: ClassVar[int] = DEFAULT_MAX_BYTES
    same_for_all: ClassVar[bool] = False

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Show bytes by their length only: some are secrets on their way, none is readable."""
        for name, value in super().__repr_args__():
            yield name, f"<{len(value)} bytes>" if isinstance(value, bytes) else value

    def to_bytes(self) -> bytes:
        """Return the canonical encoding.

        That of a signed message, and of one that is the same for all, is kept: it is hashed, verified,
        compared and passed on, often many times.
        """
        kept: bytes | None = self.__dict__.get(_ENCODED)
        if kept is not None:
            return kept
        encoded = self.encode_fields(self.__dict__)
        if self.same_for_all or _SIGNATURE in self.__dict__:
            self.__dict__[_ENCODED] = encoded
        return encoded

    @classmethod
    def encode_fields(cls, fields: Mapping[str, Any], *, without: str | None = None) -> bytes:
        """Return the encoding of a message with these fields, less one; unchecked, may hold `Encoded`."""
        return b"".join(cls._pieces(fields, without))

    @classmethod
    def _pieces(cls, fields: Mapping[str, Any], without: str | None = None) -> list[bytes]:
        count, runs = _layout(cls, without)
        pieces = [bytes((0x80 | count,)) if count < 16 else _header(0xDE, count)]
        for names, key in runs:
            if key is None:
                pieces.append(encode_plain({name: fields[name] for name in names})[1:])  # less its header
            else:
                pieces.append(key)
                _write(fields[names[0]], pieces)
        return pieces

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy, see pydantic; one with other fields has another encoding and no cached values."""
        copied = super().model_copy(update=update, deep=deep)
        for name in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[name]
        return copied

    @classmethod
    def from_bytes(cls, data: bytes, *, max_bytes: int | None = None) -> Self:
        """Decode strictly.

        Raises:
            MalformedMessage: If the bytes are too long or not the canonical encoding of this message.
        """
        limit = cls.max_bytes if max_bytes is None else max_bytes
        return cls._from_fields(_unpack(data, limit), data)

    @classmethod
    def _from_fields(cls, fields: Any, data: bytes) -> Self:
        if cls.same_for_all:
            return shared(cls, data, lambda: cls._strict(fields, data))
        return cls._strict(fields, data)

    @classmethod
    def _strict(cls, fields: Any, data: bytes) -> Self:
        try:
            message = cls.model_validate(fields)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            # A field that no message has is named by whoever sent it: its name is no word of ours.
            place = first["loc"][:-1] if first["type"] in _FOREIGN_KEY else first["loc"]
            where = ".".join(str(part) for part in place) or "message"
            raise MalformedMessage(f"{cls.__name__}: {where}: {first['msg']}") from None
        if not _joined_is(cls._pieces(message.__dict__), data):
            raise MalformedMessage(f"{cls.__name__} is not in its canonical encoding")
        if cls.same_for_all or _SIGNATURE in message.__dict__:
            message.__dict__[_ENCODED] = bytes(data)
        return message


def _joined_is(pieces: list[bytes], data: bytes) -> bool:
    """Return whether the pieces make up ``data``, without another copy of a long vector."""
    if len(data) <= LONG_BYTES:
        return b"".join(pieces) == data
    start = 0
    for piece in pieces:
        if not data.startswith(piece, start):
            return False
        start += len(piece)
    return start == len(data)


@cache
def _layout(
    cls: type[Message], without: str | None
) -> tuple[int, tuple[tuple[tuple[str, ...], bytes | None], ...]]:
    """Return how a message is encoded, less one field: how many fields, and runs of them in order.

    Short plain fields that follow each other make up one run, encoded at once, without a key here. A field
    that holds messages or long bytes is a run of its own, with its encoded key.
    """
    runs: list[tuple[tuple[str, ...], bytes | None]] = []
    fields = {name: about for name, about in sorted(cls.model_fields.items()) if name != without}
    for name, about in fields.items():
        unbounded = about.annotation is bytes and not about.metadata
        if unbounded or not _is_plain(about.annotation):
            runs.append(((name,), encode_plain(name)))
        elif runs and runs[-1][1] is None and len(runs[-1][0]) < _FIXED_MAP_ITEMS:
            runs[-1] = ((*runs[-1][0], name), None)
        else:
            runs.append(((name,), None))
    return len(fields), tuple(runs)


def _is_plain(annotation: Any) -> bool:
    """Whether values of an annotated type hold no message and no map."""
    inner = get_args(annotation)
    if get_origin(annotation) is Annotated:
        return _is_plain(inner[0])
    if get_origin(annotation) in (Union, UnionType, tuple):
        return all(part is Ellipsis or _is_plain(part) for part in inner)
    return get_origin(annotation) is Literal or annotation in _SCALARS


class TaggedMessage(Message):
    """A message that says what it is; subclasses narrow ``kind`` to one literal with a default."""

    kind: str

    @classmethod
    def tag(cls) -> str:
        """Return the value of ``kind`` that stands for this class."""
        default: str = cls.model_fields["kind"].default
        return default


Tagged = TypeVar("Tagged", bound=TaggedMessage)


def decode_one_of(data: bytes, kinds: Mapping[str, type[Tagged]], *, max_bytes: int) -> Tagged:
    """Decode a message whose ``kind`` selects one of several classes.

    Args:
        data: The encoded message.
        kinds: Tag to class, from `kinds_of`.
        max_bytes: Largest size accepted of any kind; the class may say less.

    Raises:
        MalformedMessage: If it is too long, of no such kind, or not the canonical encoding of it.
    """
    fields = _unpack(data, max_bytes)
    kind = fields.get("kind") if isinstance(fields, dict) else None
    if not isinstance(kind, str) or kind not in kinds:
        raise MalformedMessage("a message of a kind that is not known here")
    _check_size(data, kinds[kind].max_bytes)
    return kinds[kind]._from_fields(fields, data)


def kinds_of(*classes: type[Tagged]) -> dict[str, type[Tagged]]:
    """Return tag to class for `decode_one_of`."""
    return {cls.tag(): cls for cls in classes}


def _check_size(data: bytes, max_bytes: int) -> None:
    if len(data) > max_bytes:
        raise MalformedMessage(f"a message of {len(data)} bytes where at most {max_bytes} are allowed")


def _unpack(data: bytes, max_bytes: int) -> Any:
    _check_size(data, max_bytes)
    if not decoding_cost.msgpack_fits(data):
        raise MalformedMessage("a message with more items or wider text in it than any has for its size")
    try:
        return msgpack.unpackb(
            data,
            raw=False,
            use_list=False,
            max_array_len=MAX_CONTAINER_ITEMS,
            max_map_len=MAX_FIELDS,
            max_ext_len=0,
        )
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise MalformedMessage(f"a message does not decode ({type(error).__name__})") from None
