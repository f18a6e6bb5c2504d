"""Encoder and decoder for AMF0, the format of RTMP's commands and metadata.

Source: Adobe's *Action Message Format -- AMF 0*. The Python types are those of ``amf``. Long strings are
strings, ECMA arrays are arrays with names, and strict arrays are arrays.

Rules: decoding limits the depth and the number of values, and never allocates more than the received bytes
justify, whatever count they declare. Strings that are not UTF-8 are decoded with replacement characters,
because old encoders send names in the machine's own encoding. A value can be AMF3, behind a marker: Flash
clients with object encoding 3 send such arguments. References, XML and record sets raise an error that
names them: no RTMP client sends them in commands.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Final

from gateway.errors import RTMPError
from gateway.protocols.rtmp import amf3
from gateway.protocols.rtmp.amf import (
    UNDEFINED,
    Date,
    EcmaArray,
    Reader,
    TypedObject,
    Undefined,
    Value,
)
from gateway.protocols.rtmp.amf3 import References

_NUMBER, _BOOLEAN, _STRING, _OBJECT = 0x00, 0x01, 0x02, 0x03
_NULL, _UNDEFINED, _ECMA_ARRAY, _END = 0x05, 0x06, 0x08, 0x09
_STRICT_ARRAY, _DATE, _LONG_STRING, _TYPED_OBJECT, _AMF3 = 0x0A, 0x0B, 0x0C, 0x10, 0x11
_REFUSED: Final = {
    0x04: "movie clip",
    0x07: "reference",
    _END: "object end outside an object",
    0x0D: "unsupported",
    0x0E: "record set",
    0x0F: "XML document",
}
_END_OF_OBJECT: Final = bytes([0, 0, _END])

_double: Final = struct.Struct(">d")
_date: Final = struct.Struct(">dh")


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


class Decoder(Reader):
    """Decodes values from ``data`` one at a time; ``at`` is the position of the next one.

    ``at`` before and after a value is its extent. The bytes of a value can be copied to another message,
    unless they refer to an AMF3 value that is not copied.
    """

    __slots__ = ("_references",)

    def __init__(self, data: bytes, at: int = 0) -> None:
        super().__init__(data, at)
        self._references = References()

    def value(self) -> Value:
        """Decode the next value. Raises RTMPError if it is incomplete, malformed or exceeds a limit."""
        self.count_values(1)
        marker = self.octet()
        read = _READERS.get(marker)
        if read is None:
            name = _REFUSED.get(marker, "no type")
            raise RTMPError(f"AMF0 marker {marker:#04x} ({name}) in a command")
        return read(self)

    def names(self) -> Iterator[str]:
        """The names in an object, behind its marker. The caller must read the value after each name."""
        self.descend()
        while not self._data.startswith(_END_OF_OBJECT, self.at):
            yield self.string()
        self.take(len(_END_OF_OBJECT))
        self.ascend()

    def boolean(self) -> bool:
        return self.octet() != 0

    def string(self) -> str:
        return self.text(self.unsigned(2))

    def long_string(self) -> str:
        return self.text(self.unsigned(4))

    def date(self) -> Date:
        return Date(*_date.unpack(self.take(10)))

    def object(self) -> dict[str, Value]:
        return {name: self.value() for name in self.names()}

    def ecma_array(self) -> EcmaArray:
        # The count is a hint: FFmpeg and others write counts that do not match.
        self.take(4)
        return EcmaArray(self.object())

    def typed_object(self) -> TypedObject:
        return TypedObject(self.string(), self.object())

    def strict_array(self) -> list[Value]:
        count = self.unsigned(4)
        self.descend()
        array = [self.value() for _ in range(count)]
        self.ascend()
        return array

    def amf3(self) -> Value:
        return amf3.Decoder(self, self._references).value()


_READERS: Final[dict[int, Callable[[Decoder], Value]]] = {
    _NUMBER: Decoder.double,
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
    _AMF3: Decoder.amf3,
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
