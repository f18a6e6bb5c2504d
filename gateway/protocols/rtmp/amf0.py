"""Encoder and decoder for AMF0, the format of RTMP's commands and metadata.

Source: Adobe's *Action Message Format -- AMF 0*. The Python types are

    number  float (or int, to encode)          null        None
    boolean bool                               undefined   UNDEFINED
    string, long string  str                   date        Date
    object  dict                               typed object TypedObject
    ECMA array  EcmaArray (a dict)             strict array list

Rules: decoding limits the depth and the number of values, and never allocates more than the received bytes
justify, whatever count they declare. Strings that are not UTF-8 are decoded with replacement characters,
because old encoders send names in the machine's own encoding. References, XML, record sets and AMF3 inside
AMF0 raise an error that names them: no RTMP client sends them in commands.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import Enum
from typing import Final, TypeAlias

from attrs import frozen

from gateway.errors import RTMPError

# The deepest command observed has three levels (E-RTMP's maps inside connect's object).
MAX_DEPTH: Final = 16
# Metadata has tens of values, and a connect about forty. This limits the work for one message.
MAX_VALUES: Final = 4096

_NUMBER, _BOOLEAN, _STRING, _OBJECT = 0x00, 0x01, 0x02, 0x03
_NULL, _UNDEFINED, _ECMA_ARRAY, _END = 0x05, 0x06, 0x08, 0x09
_STRICT_ARRAY, _DATE, _LONG_STRING, _TYPED_OBJECT = 0x0A, 0x0B, 0x0C, 0x10
_REFUSED: Final = {
    0x04: "movie clip",
    0x07: "reference",
    _END: "object end outside an object",
    0x0D: "unsupported",
    0x0E: "record set",
    0x0F: "XML document",
    0x11: "AMF3 value",
}
_END_OF_OBJECT: Final = bytes([0, 0, _END])

_double: Final = struct.Struct(">d")
_date: Final = struct.Struct(">dh")


class Undefined(Enum):
    """The type of ``UNDEFINED``, which is not null."""

    UNDEFINED = "undefined"


UNDEFINED: Final = Undefined.UNDEFINED


@frozen
class Date:
    """A moment in milliseconds since 1970, UTC; the zone in minutes is reserved and normally 0."""

    time_ms: float
    zone: int = 0


class EcmaArray(dict[str, "Value"]):
    """An object with a count before it: the type of ``onMetaData``'s argument."""


@frozen
class TypedObject:
    """An object of a named class."""

    name: str
    properties: dict[str, Value]


Value: TypeAlias = (
    float | bool | str | Undefined | Date | TypedObject | dict[str, "Value"] | list["Value"] | None
)


def encode(*values: Value) -> bytes:
    """Encode the values in order. Raises TypeError for a value that AMF0 has no type for."""
    out = bytearray()
    for value in values:
        _write(out, value)
    return bytes(out)


def decode(data: bytes) -> list[Value]:
    """Decode all values in ``data``. Raises RTMPError if it is malformed or exceeds a limit."""
    decoder = Decoder(data)
    values = []
    while decoder.at < len(data):
        values.append(decoder.value())
    return values


class Decoder:
    """Decodes values from ``data`` one at a time; ``at`` is the position of the next one."""

    __slots__ = ("_data", "_depth", "_values", "at")

    def __init__(self, data: bytes, at: int = 0) -> None:
        self._data = data
        self.at = at
        self._depth = 0
        self._values = 0

    def value(self) -> Value:
        """Decode the next value. Raises RTMPError if it is incomplete, malformed or exceeds a limit."""
        self._values += 1
        if self._values > MAX_VALUES:
            raise RTMPError(f"more than {MAX_VALUES} AMF0 values in one message")
        marker = self._take(1)[0]
        read = _READERS.get(marker)
        if read is None:
            name = _REFUSED.get(marker, "no type")
            raise RTMPError(f"AMF0 marker {marker:#04x} ({name}) in a command")
        return read(self)

    def _take(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self._data):
            raise RTMPError("AMF0 value cut short")
        taken = self._data[self.at : end]
        self.at = end
        return taken

    def _unsigned(self, count: int) -> int:
        return int.from_bytes(self._take(count), "big")

    def number(self) -> float:
        value: float = _double.unpack(self._take(8))[0]
        return value

    def boolean(self) -> bool:
        return self._take(1) != b"\0"

    def string(self) -> str:
        return self._take(self._unsigned(2)).decode("utf-8", "replace")

    def long_string(self) -> str:
        return self._take(self._unsigned(4)).decode("utf-8", "replace")

    def date(self) -> Date:
        return Date(*_date.unpack(self._take(10)))

    def object(self) -> dict[str, Value]:
        return self._properties({})

    def ecma_array(self) -> EcmaArray:
        # The count is a hint: FFmpeg and others write counts that do not match.
        self._take(4)
        array = EcmaArray()
        self._properties(array)
        return array

    def typed_object(self) -> TypedObject:
        return TypedObject(self.string(), self._properties({}))

    def strict_array(self) -> list[Value]:
        count = self._unsigned(4)
        if count > len(self._data) - self.at:
            raise RTMPError("AMF0 array longer than its message")
        self._descend()
        array = [self.value() for _ in range(count)]
        self._depth -= 1
        return array

    def _properties(self, into: dict[str, Value]) -> dict[str, Value]:
        self._descend()
        while not self._data.startswith(_END_OF_OBJECT, self.at):
            name = self.string()
            into[name] = self.value()
        self.at += len(_END_OF_OBJECT)
        self._depth -= 1
        return into

    def _descend(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise RTMPError(f"AMF0 objects nested deeper than {MAX_DEPTH}")


_READERS: Final[dict[int, Callable[[Decoder], Value]]] = {
    _NUMBER: Decoder.number,
    _BOOLEAN: Decoder.boolean,
    _STRING: Decoder.string,
    _OBJECT: Decoder.object,
    _NULL: lambda decoder: None,
    _UNDEFINED: lambda decoder: UNDEFINED,
    _ECMA_ARRAY: Decoder.ecma_array,
    _STRICT_ARRAY: Decoder.strict_array,
    _DATE: Decoder.date,
    _LONG_STRING: Decoder.long_string,
    _TYPED_OBJECT: Decoder.typed_object,
}


def _write(out: bytearray, value: Value) -> None:
    match value:
        case None:
            out.append(_NULL)
        case Undefined():
            out.append(_UNDEFINED)
        case bool():
            out += bytes([_BOOLEAN, value])
        case int() | float():
            out.append(_NUMBER)
            out += _double.pack(value)
        case str():
            _write_string(out, value)
        case Date():
            out.append(_DATE)
            out += _date.pack(value.time_ms, value.zone)
        case list():
            _write_array(out, value)
        case EcmaArray():
            out.append(_ECMA_ARRAY)
            out += len(value).to_bytes(4, "big")
            _write_properties(out, value)
        case dict():
            out.append(_OBJECT)
            _write_properties(out, value)
        case TypedObject():
            out.append(_TYPED_OBJECT)
            _write_name(out, value.name)
            _write_properties(out, value.properties)
        case _:
            raise TypeError(f"AMF0 has no type for {type(value).__name__}")


def _write_string(out: bytearray, text: str) -> None:
    encoded = text.encode()
    short = len(encoded) <= 0xFFFF
    out.append(_STRING if short else _LONG_STRING)
    out += len(encoded).to_bytes(2 if short else 4, "big")
    out += encoded


def _write_array(out: bytearray, values: list[Value]) -> None:
    out.append(_STRICT_ARRAY)
    out += len(values).to_bytes(4, "big")
    for value in values:
        _write(out, value)


def _write_properties(out: bytearray, properties: dict[str, Value]) -> None:
    for name, value in properties.items():
        _write_name(out, name)
        _write(out, value)
    out += _END_OF_OBJECT


def _write_name(out: bytearray, name: str) -> None:
    encoded = name.encode()
    out += len(encoded).to_bytes(2, "big")
    out += encoded
