"""A transport around another one, for the layers between a session and its socket."""

from __future__ import annotations

from typing import Any


class WrappedTransport:
    """What a subclass does not define is that of ``_transport``, the transport below, which it sets."""

    __slots__ = ("_transport",)

    _transport: Any

    @property
    def high_water_bytes(self) -> int:
        return int(self._transport.high_water_bytes)

    @high_water_bytes.setter
    def high_water_bytes(self, value: int) -> None:
        self._transport.high_water_bytes = value

    @property
    def last_bytes(self) -> int:
        return int(self._transport.last_bytes)

    @last_bytes.setter
    def last_bytes(self, value: int) -> None:
        self._transport.last_bytes = value

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _close_without_waiting(self) -> None:
        """Close the transport below, also if the peer does not read what was written."""
        self._transport.unregisterProducer()
        if self._transport.unsent:
            self._transport.abortConnection()
        else:
            self._transport.loseConnection()
