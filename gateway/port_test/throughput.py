"""The throughput of a way, against the loopback of a gateway that has a port test.

The loopback is reached by tunnels only, under the path of the port test (``protocols/port_test``). What is
measured is that of one client which sends one request after another, as RTMPT programs do.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.port_test.carriers import TunnelCarrier
from gateway.port_test.connections import Path
from gateway.port_test.conversation import Conversation
from gateway.port_test.dialogue import Dialogue
from gateway.port_test.held_idles import HeldIdles
from gateway.port_test.observations import Kind, Throughput, TrialFailed, Unmeasured
from gateway.port_test.requests import Requests
from gateway.protocols.rtmp.handshake import RANDOM_BYTES

# Long enough for the start of TCP's congestion control; in each direction.
MEASURED_S: Final = 2.0
_BUSY: Final = frozenset({429, 503})


async def measured(
    path: Callable[[], Awaitable[Path]],
    requests: Requests,
    timeout_s: float,
    seconds: float = MEASURED_S,
) -> Throughput:
    """Measure in a new tunnel, for ``seconds`` in each direction. ``path`` and ``requests`` are those of
    the way; ``timeout_s`` is for all else.
    """
    try:
        async with asyncio.timeout(2 * seconds + timeout_s):
            return await _measured(await path(), requests, timeout_s, seconds)
    except (TrialFailed, TimeoutError):
        return Throughput(cause=Unmeasured.FAILED)


async def _measured(path: Path, requests: Requests, timeout_s: float, seconds: float) -> Throughput:
    tunnel = TunnelCarrier(await path.open(), path, requests, HeldIdles())
    try:
        try:
            await tunnel.open()
        except TrialFailed as failure:
            return Throughput(cause=_cause_of_refusal(failure))
        dialogue = Dialogue(os.urandom(RANDOM_BYTES))
        conversation = Conversation(tunnel, dialogue, HeldIdles())
        end = asyncio.get_running_loop().time() + timeout_s
        await conversation.shake(end)
        up = await conversation.measure_up(seconds)
        down = None if up is None else await conversation.measure_down(seconds)
    finally:
        await tunnel.close()
    cause = Unmeasured.BUSY if down is None else None
    return Throughput(up, down, dialogue.limit_bytes_per_s, cause)


def _cause_of_refusal(failure: TrialFailed) -> Unmeasured:
    """``failure``: of the open. Later ones say nothing of what the server offers."""
    if failure.status in _BUSY:
        return Unmeasured.BUSY
    if failure.kind in (Kind.STATUS, Kind.NOT_A_TUNNEL):
        return Unmeasured.NOT_OFFERED
    return Unmeasured.FAILED
