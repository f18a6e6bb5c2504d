"""An encoder for AMF3, for tests: it refers to strings and traits by number, and to no objects."""

from __future__ import annotations

import struct
from typing import Any

from gateway.protocols.rtmp.amf import UNDEFINED, Date, EcmaArray, TypedObject, Undefined, Value


def encode(*values: Value) -> bytes:
    """The values, one after another."""
    encoder = _Encoder()
    return b"".join(encoder.value(value) for value in values)


def unsigned29(number: int) -> bytes:
    """``number`` in one to four bytes."""
    if number < 1 << 21:
        groups = [number & 127]
        while number := number >> 7:
            groups.insert(0, number & 127 | 128)
        return bytes(groups)
    high = number >> 8
    return bytes([high >> 14 | 128, high >> 7 & 127 | 128, high & 127 | 128, number & 255])


class _Encoder:
    def __init__(self) -> None:
        self._strings: list[str] = []
        self._traits: list[tuple[str, ...]] = []

    def value(self, value: Value) -> bytes:
        marker, body = _WRITERS[type(value)](self, value)
        return bytes([marker]) + body

    def constant(self, value: Value) -> tuple[int, bytes]:
        return {UNDEFINED: 0x00, None: 0x01, False: 0x02, True: 0x03}[value], b""

    def integer(self, value: int) -> tuple[int, bytes]:
        return 0x04, unsigned29(value & (1 << 29) - 1)

    def double(self, value: float) -> tuple[int, bytes]:
        return 0x05, struct.pack(">d", value)

    def string(self, value: str) -> tuple[int, bytes]:
        return 0x06, self._string(value)

    def date(self, value: Date) -> tuple[int, bytes]:
        return 0x08, b"\x01" + struct.pack(">d", value.time_ms)

    def array(self, value: list[Value]) -> tuple[int, bytes]:
        return 0x09, unsigned29(len(value) << 1 | 1) + b"\x01" + self._all(value)

    def named_array(self, value: EcmaArray) -> tuple[int, bytes]:
        return 0x09, b"\x01" + self._dynamic(value)

    def object(self, value: dict[str, Value]) -> tuple[int, bytes]:
        return 0x0A, self._traits_header(("",)) + self._dynamic(value)

    def typed_object(self, value: TypedObject) -> tuple[int, bytes]:
        header = self._traits_header((value.name, *value.properties))
        return 0x0A, header + self._all(list(value.properties.values()))

    def _all(self, values: list[Value]) -> bytes:
        return b"".join(map(self.value, values))

    def _string(self, text: str) -> bytes:
        if text in self._strings:
            return unsigned29(self._strings.index(text) << 1)
        if text:
            self._strings.append(text)
        data = text.encode()
        return unsigned29(len(data) << 1 | 1) + data

    def _dynamic(self, members: dict[str, Value]) -> bytes:
        pairs = [self._string(name) + self.value(value) for name, value in members.items()]
        return b"".join(pairs) + b"\x01"

    def _traits_header(self, traits: tuple[str, ...]) -> bytes:
        """``traits``: the name of a class, and of its sealed members; "" alone is a dynamic object."""
        if traits in self._traits:
            return unsigned29(self._traits.index(traits) << 2 | 1)
        self._traits.append(traits)
        flags = 0b1011 if traits == ("",) else 0b0011
        return unsigned29((len(traits) - 1) << 4 | flags) + b"".join(map(self._string, traits))


_WRITERS: dict[type, Any] = {
    Undefined: _Encoder.constant,
    type(None): _Encoder.constant,
    bool: _Encoder.constant,
    int: _Encoder.integer,
    float: _Encoder.double,
    str: _Encoder.string,
    Date: _Encoder.date,
    list: _Encoder.array,
    EcmaArray: _Encoder.named_array,
    dict: _Encoder.object,
    TypedObject: _Encoder.typed_object,
}
