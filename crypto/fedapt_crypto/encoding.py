"""The one byte encoding of messages: canonical msgpack, decoded strictly into frozen pydantic models.

Decoding goes from cheap checks to dear ones: size cap, msgpack with bounded containers, strict model,
and last that encoding the result again gives the same bytes. The last check rules out leftovers,
repeated map keys, unsorted or unknown fields and non-minimal numbers in one stroke, so a signature over
an encoded message covers the only spelling that message has.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Self, TypeVar

import msgpack
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedapt_crypto.errors import MalformedMessage

DEFAULT_MAX_BYTES = 1 << 20
MAX_CONTAINER_ITEMS = 4096

Hash = Annotated[bytes, Field(min_length=32, max_length=32)]
"""A SHA-256 value."""
Signature = Annotated[bytes, Field(min_length=64, max_length=64)]
"""An Ed25519 signature."""
PartyName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
"""An institution's or the coordinator's name; safe in file names, certificates and logs."""


def encode(value: Any) -> bytes:
    """Return the canonical msgpack bytes of plain values: maps sorted by key, no extension types."""
    packed: bytes = msgpack.packb(_sorted(value), use_bin_type=True)
    return packed


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, (list, tuple)):
        return [_sorted(item) for item in value]
    return value


class Message(BaseModel):
    """A frozen message with one encoding.

    Subclasses may raise `max_bytes`; what is longer is refused before it is parsed.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", hide_input_in_errors=True)
    max_bytes: ClassVar[int] = DEFAULT_MAX_BYTES

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Show bytes by their length only: some are secrets on their way, none is readable."""
        for name, value in super().__repr_args__():
            yield name, f"<{len(value)} bytes>" if isinstance(value, bytes) else value

    def to_bytes(self) -> bytes:
        """Return the canonical encoding."""
        return encode(self.model_dump(mode="python"))

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
        try:
            message = cls.model_validate(fields)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "message"
            raise MalformedMessage(f"{cls.__name__}: {where}: {first['msg']}") from None
        if message.to_bytes() != data:
            raise MalformedMessage(f"{cls.__name__} is not in its canonical encoding")
        return message


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
        max_bytes: Largest size accepted.

    Raises:
        MalformedMessage: If it is too long, of no such kind, or not the canonical encoding of it.
    """
    fields = _unpack(data, max_bytes)
    kind = fields.get("kind") if isinstance(fields, dict) else None
    if not isinstance(kind, str) or kind not in kinds:
        raise MalformedMessage("a message of a kind that is not known here")
    return kinds[kind]._from_fields(fields, data)


def kinds_of(*classes: type[Tagged]) -> dict[str, type[Tagged]]:
    """Return tag to class for `decode_one_of`."""
    return {cls.tag(): cls for cls in classes}


def _unpack(data: bytes, max_bytes: int) -> Any:
    if len(data) > max_bytes:
        raise MalformedMessage(f"a message of {len(data)} bytes where at most {max_bytes} are allowed")
    try:
        return msgpack.unpackb(
            data,
            raw=False,
            use_list=False,
            max_array_len=MAX_CONTAINER_ITEMS,
            max_map_len=MAX_CONTAINER_ITEMS,
            max_ext_len=0,
        )
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise MalformedMessage(f"a message does not decode ({type(error).__name__})") from None
