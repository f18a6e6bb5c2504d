"""Decoder for AMF3, which Flash clients with object encoding 3 use inside of AMF0.

Source: Adobe's *Action Message Format -- AMF 3*. The Python types are those of ``amf``. Rules:

- A value can refer to strings, traits and objects that came before it in the message, by number. All AMF3
  values of a message must be decoded, in order, with the same ``References``.
- A reference to an object, array or date is read as UNDEFINED. Otherwise a small message could describe
  cycles, and values of any size.
- Byte arrays, vectors of numbers, and dictionaries are skipped, and read as UNDEFINED: commands do not need
  them.
- An externalizable object has a format of its own, so its end is not known: an error. The exceptions are
  Flex's wrappers, which contain one value.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from attrs import Factory, define, frozen

from gateway.errors import RTMPError
from gateway.protocols.rtmp.amf import UNDEFINED, Date, EcmaArray, Reader, TypedObject, Value

_WRAPPERS: Final = {
    "flex.messaging.io.ArrayCollection",
    "flex.messaging.io.ArrayList",
    "flex.messaging.io.ObjectProxy",
}
# Integers have 29 bits.
_SIGN: Final = 1 << 28

_Stored = TypeVar("_Stored")


@frozen
class _Traits:
    """A class as the sender describes it: the names of the members that each object has."""

    class_name: str
    names: tuple[str, ...]
    dynamic: bool
    externalizable: bool


@define
class References:
    """What the values of a message can refer to. ``objects`` is a number, of arrays and dates too."""

    strings: list[str] = Factory(list)
    traits: list[_Traits] = Factory(list)
    objects: int = 0


class Decoder:
    """Decodes values at the position of ``reader``."""

    __slots__ = ("_reader", "_references")

    def __init__(self, reader: Reader, references: References) -> None:
        self._reader = reader
        self._references = references

    def value(self) -> Value:
        """Decode the next value. Raises RTMPError if it is incomplete, malformed or exceeds a limit."""
        self._reader.count_values(1)
        marker = self._reader.octet()
        read = _READERS.get(marker)
        if read is None:
            raise RTMPError(f"AMF3 marker {marker:#04x} (no type) in a command")
        return read(self)

    def integer(self) -> float:
        number = self._unsigned29()
        return float(number - 2 * _SIGN if number >= _SIGN else number)

    def double(self) -> float:
        return self._reader.double()

    def string(self) -> str:
        header = self._unsigned29()
        if not header & 1:
            return _stored(self._references.strings, header >> 1)
        text = self._reader.text(header >> 1)
        if text:
            self._references.strings.append(text)
        return text

    def xml(self) -> Value:
        length = self._begin_object()
        return UNDEFINED if length is None else self._reader.text(length)

    def date(self) -> Value:
        return UNDEFINED if self._begin_object() is None else Date(self._reader.double())

    def array(self) -> Value:
        count = self._begin_object()
        if count is None:
            return UNDEFINED
        self._reader.descend()
        named = EcmaArray(self._dynamic_members())
        dense = self._values(count)
        self._reader.ascend()
        if not named:
            return dense
        named.update((str(index), value) for index, value in enumerate(dense))
        return named

    def object(self) -> Value:
        header = self._begin_object()
        if header is None:
            return UNDEFINED
        traits = self._read_traits(header)
        self._reader.descend()
        value = self._members(traits)
        self._reader.ascend()
        return value

    def byte_array(self) -> Value:
        length = self._begin_object()
        if length is not None:
            self._reader.take(length)
        return UNDEFINED

    def number_vector(self, size_bytes: int) -> Value:
        count = self._begin_object()
        if count is not None:
            # One byte says whether the length is fixed.
            self._reader.take(1 + count * size_bytes)
        return UNDEFINED

    def object_vector(self) -> Value:
        count = self._begin_object()
        if count is None:
            return UNDEFINED
        self._reader.take(1)
        # The class of the elements.
        self.string()
        self._reader.descend()
        values = self._values(count)
        self._reader.ascend()
        return values

    def dictionary(self) -> Value:
        count = self._begin_object()
        if count is not None:
            # One byte says whether the keys are weak references.
            self._reader.take(1)
            self._reader.descend()
            self._values(2 * count)
            self._reader.ascend()
        return UNDEFINED

    def _unsigned29(self) -> int:
        """An integer of one to four bytes: seven bits of the first three, and eight of the fourth."""
        number = 0
        for _ in range(3):
            octet = self._reader.octet()
            number = number << 7 | octet & 0x7F
            if octet < 0x80:
                return number
        return number << 8 | self._reader.octet()

    def _begin_object(self) -> int | None:
        """The header of an object, without its lowest bit; None for a reference to an earlier one."""
        header = self._unsigned29()
        if header & 1:
            self._references.objects += 1
            return header >> 1
        if header >> 1 >= self._references.objects:
            raise RTMPError(f"AMF3 reference {header >> 1} to nothing")
        return None

    def _values(self, count: int) -> list[Value]:
        return [self.value() for _ in range(count)]

    def _read_traits(self, header: int) -> _Traits:
        if not header & 1:
            return _stored(self._references.traits, header >> 1)
        class_name = self.string()
        externalizable = bool(header & 2)
        count = 0 if externalizable else header >> 3
        self._reader.count_values(count)
        names = tuple(self.string() for _ in range(count))
        traits = _Traits(class_name, names, bool(header & 4), externalizable)
        self._references.traits.append(traits)
        return traits

    def _members(self, traits: _Traits) -> Value:
        if traits.externalizable:
            if traits.class_name not in _WRAPPERS:
                raise RTMPError(
                    f"AMF3 object of the externalizable class {traits.class_name[:40]!r}"
                )
            return self.value()
        members = {name: self.value() for name in traits.names}
        if traits.dynamic:
            members.update(self._dynamic_members())
        return TypedObject(traits.class_name, members) if traits.class_name else members

    def _dynamic_members(self) -> dict[str, Value]:
        members: dict[str, Value] = {}
        while name := self.string():
            members[name] = self.value()
        return members


def _stored(table: list[_Stored], index: int) -> _Stored:
    if index >= len(table):
        raise RTMPError(f"AMF3 reference {index} to nothing")
    return table[index]


def _constant(value: Value) -> Callable[[Decoder], Value]:
    return lambda decoder: value


_READERS: Final[dict[int, Callable[[Decoder], Value]]] = {
    0x00: _constant(UNDEFINED),
    0x01: _constant(None),
    0x02: _constant(False),
    0x03: _constant(True),
    0x04: Decoder.integer,
    0x05: Decoder.double,
    0x06: Decoder.string,
    0x07: Decoder.xml,
    0x08: Decoder.date,
    0x09: Decoder.array,
    0x0A: Decoder.object,
    0x0B: Decoder.xml,
    0x0C: Decoder.byte_array,
    # Signed and unsigned integers, and numbers.
    0x0D: partial(Decoder.number_vector, size_bytes=4),
    0x0E: partial(Decoder.number_vector, size_bytes=4),
    0x0F: partial(Decoder.number_vector, size_bytes=8),
    0x10: Decoder.object_vector,
    0x11: Decoder.dictionary,
}
