"""Translations of a stream of bytes, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, final


class Translation(Protocol):
    """``translate`` takes bytes, returns those in their place, and raises RTMPError. ``done`` is set once
    all further bytes pass unchanged.
    """

    @property
    def done(self) -> bool: ...

    def translate(self, data: bytes, now: float) -> bytes: ...


@final
class Translations:
    """A translation that passes the output of each to the next one."""

    __slots__ = ("_translations",)

    def __init__(self, translations: Sequence[Translation]) -> None:
        self._translations = translations

    @property
    def done(self) -> bool:
        return all(each.done for each in self._translations)

    def translate(self, data: bytes, now: float) -> bytes:
        for each in self._translations:
            if not each.done:
                data = each.translate(data, now)
        return data
