"""A server's transport for a session whose connect is rewritten (``protocols/rtmp/connect_rewriting``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from gateway.errors import RTMPError
from gateway.protocols.rtmp.connect_rewriting import ConnectRewriting


@final
class TranslatingTransport:
    """``write`` becomes the transport's own once no more translation is required."""

    def __init__(
        self, transport: Any, rewriting: ConnectRewriting, clock: Callable[[], float]
    ) -> None:
        self._transport = transport
        self._rewriting = rewriting
        self._clock = clock
        self.write: Callable[[bytes], None] = self._translate

    @property
    def high_water_bytes(self) -> int:
        return int(self._transport.high_water_bytes)

    @high_water_bytes.setter
    def high_water_bytes(self, value: int) -> None:
        self._transport.high_water_bytes = value

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _translate(self, data: bytes) -> None:
        try:
            translated = self._rewriting.translate(data, self._clock())
        except RTMPError:
            # The server could not read it either.
            self._transport.abortConnection()
            return
        if self._rewriting.done:
            self.write = self._transport.write
        if translated:
            self._transport.write(translated)
