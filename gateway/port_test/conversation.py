"""One RTMP connection over a carrier: handshake, connect, play, round trips, held idles, throughput."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from math import inf
from statistics import median
from typing import Final

from gateway.errors import RTMPError
from gateway.port_test.answers import kind_of_bytes
from gateway.port_test.carriers import Carrier
from gateway.port_test.dialogue import Dialogue
from gateway.port_test.held_idles import Answer, HeldIdles
from gateway.port_test.observations import Kind, TrialFailed
from gateway.protocols.port_test.measuring import BLOCK_BYTES, DOWN, UP
from gateway.protocols.port_test.resources import SEND_BYTES
from gateway.protocols.rtmp.handshake import VERSION

# An odd number has a median; the first one may include the start of a server's process.
_PINGS: Final = 3
# Servers that answer pings do so at once. Some never do.
_PINGS_S: Final = 0.6
# The number of blocks in one send of a measurement.
_BLOCKS: Final = SEND_BYTES // BLOCK_BYTES


class Conversation:
    """Calls raise TrialFailed. Their caller limits the time; ``end`` is a time of the event loop."""

    def __init__(self, carrier: Carrier, dialogue: Dialogue, idles: HeldIdles) -> None:
        self._carrier = carrier
        self._dialogue = dialogue
        self._idles = idles
        self._unsent = dialogue.hello

    async def shake(self, end: float) -> None:
        """The handshake."""
        await self._until(lambda: self._dialogue.shaken, end)

    async def connect(self, application: str, url: str, end: float) -> None:
        """Connect to the application, which must accept."""
        self._unsent += self._dialogue.connect(application, url)
        await self._until(lambda: bool(self._dialogue.code), end)
        if not self._dialogue.accepted:
            detail = f"{self._dialogue.code} {self._dialogue.description}".strip()
            raise TrialFailed(Kind.REJECTED, detail)

    async def play(self, stream: str, end: float) -> None:
        """Play until media arrives, or until ``end``."""
        self._unsent += self._dialogue.play(stream)
        await self._until(lambda: bool(self._dialogue.stream_code), end)
        if self._dialogue.stream_code.startswith("NetStream.Play.St"):
            await self._until(lambda: self._dialogue.media > 0, end)

    async def round_trip_ms(self, end: float) -> float | None:
        """The median time of answers to a few pings; None if the server does not answer any."""
        times: list[float] = []
        end = min(end, _now() + _PINGS_S)
        for number in range(1, _PINGS + 1):
            began = _now()
            self._unsent += self._dialogue.ping(number)
            try:
                await self._until(self._answered(number), end)
            except TrialFailed:
                break
            times.append((_now() - began) * 1000)
        return median(times) if times else None

    async def watch(self, end: float) -> None:
        """Exchange until ``end``."""
        while _now() < end:
            await self._exchange(end)

    async def measure_up(self, seconds: float) -> float | None:
        """The throughput of sends, in bytes a second; None if the loopback permits no measurement."""
        if not await self._is_permitted(UP):
            return None
        noise = os.urandom(BLOCK_BYTES)
        self._unsent += self._dialogue.grow_chunks()
        began, sent = _now(), 0
        while (took := _now() - began) < seconds:
            self._unsent += b"".join(self._dialogue.block(noise) for _ in range(_BLOCKS))
            sent += len(self._unsent)
            await self._exchange(inf)
        return sent / took

    async def measure_down(self, seconds: float) -> float | None:
        """The same of answers."""
        if not await self._is_permitted(DOWN):
            return None
        began, received = _now(), 0
        while (took := _now() - began) < seconds:
            received += await self._exchange(inf)
        return received / took

    async def _is_permitted(self, direction: str) -> bool:
        self._unsent += self._dialogue.measure(direction)
        await self._until(lambda: self._dialogue.permitted is not None, inf)
        return self._dialogue.permitted is True

    def _answered(self, number: int) -> Callable[[], bool]:
        return lambda: number in self._dialogue.pongs

    async def _until(self, condition: Callable[[], bool], end: float) -> None:
        while not condition():
            if _now() >= end:
                raise TrialFailed(Kind.NO_ANSWER)
            await self._exchange(end)

    async def _exchange(self, end: float) -> int:
        """Send what is unsent, or poll. Returns the number of bytes received."""
        data, self._unsent = self._unsent, b""
        arrival = await self._carrier.exchange(data, end)
        media, media_ms = self._dialogue.media, self._dialogue.media_ms
        self._receive(arrival.data)
        if arrival.idle:
            # The first media of a stream is a burst from the server's memory, whose times say nothing.
            span = self._dialogue.media_ms - media_ms if media else 0
            self._idles.answered(
                Answer(arrival.first_byte_ms, arrival.last_byte_ms, not arrival.data, span)
            )
        return len(arrival.data)

    def _receive(self, data: bytes) -> None:
        if not data:
            return
        if not self._dialogue.begun and data[0] != VERSION:
            raise TrialFailed(kind_of_bytes(data))
        try:
            self._unsent += self._dialogue.receive(data)
        except RTMPError as error:
            raise TrialFailed(Kind.SPEAKS_OTHER, str(error)) from None


def _now() -> float:
    return asyncio.get_running_loop().time()
