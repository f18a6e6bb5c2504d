"""Values of AMF, the format of RTMP's commands and metadata, and the bounded input of its two decoders.

The Python types are, for AMF0 (``amf0``) and AMF3 (``amf3``):

    number, integer  float (or int, to encode)     null         None
    boolean          bool                          undefined    UNDEFINED
    string, XML      str                           date         Date
    object           dict                          object of a named class   TypedObject
    array            list                          array with names          EcmaArray (a dict)

A message that begins in AMF0 may contain AMF3. Both decoders of a message use one ``Reader``, which limits
the depth and the number of values. No memory is allocated for a count that a message declares.
"""

from __future__ import annotations

import struct
from enum import Enum
from typing import Final, TypeAlias

from attrs import frozen

from gateway.errors import RTMPError

# The deepest command observed has three levels (E-RTMP's maps inside connect's object).
MAX_DEPTH: Final = 16
# Metadata has tens of values, and a connect about forty. This limits the work for one message.
MAX_VALUES: Final = 4096

_double: Final = struct.Struct(">d")


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
    """An array with names: the type of ``onMetaData``'s argument."""


@frozen
class TypedObject:
    """An object of a named class."""

    name: str
    properties: dict[str, Value]


Value: TypeAlias = (
    float | bool | str | Undefined | Date | TypedObject | dict[str, "Value"] | list["Value"] | None
)


class Reader:
    """Reads ``data`` from ``at`` on. Raises RTMPError at the end of the data, and at a limit."""

    __slots__ = ("_data", "_depth", "_values", "at")

    def __init__(self, data: bytes, at: int = 0) -> None:
        self._data = data
        self.at = at
        self._depth = 0
        self._values = 0

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        end = self.at + count
        if end > len(self._data):
            raise RTMPError("AMF value cut short")
        taken = self._data[self.at : end]
        self.at = end
        return taken

    def octet(self) -> int:
        """The next byte."""
        at = self.at
        if at >= len(self._data):
            raise RTMPError("AMF value cut short")
        self.at = at + 1
        return self._data[at]

    def unsigned(self, count: int) -> int:
        """An integer of ``count`` bytes."""
        return int.from_bytes(self.take(count), "big")

    def double(self) -> float:
        value: float = _double.unpack(self.take(8))[0]
        return value

    def text(self, count: int) -> str:
        """A string of ``count`` bytes, which should be UTF-8."""
        return self.take(count).decode("utf-8", "replace")

    def count_values(self, count: int) -> None:
        """So many values, or names, are about to be read."""
        self._values += count
        if self._values > MAX_VALUES:
            raise RTMPError(f"more than {MAX_VALUES} AMF values in one message")

    def descend(self) -> None:
        """The next values are members of an object or array."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise RTMPError(f"AMF objects nested deeper than {MAX_DEPTH}")

    def ascend(self) -> None:
        """The object or array is complete."""
        self._depth -= 1
