"""The connection between the supervisor and a worker: calls in both directions, as JSON.

Each message is a 32-bit length and a JSON object, of one of these kinds:

    {"call": ID, "name": NAME, "values": [...]}     answered by parts, if any, and then a result or error
    {"part": ID, "value": ...}
    {"result": ID, "value": ...}
    {"error": ID, "text": ...}
    {"event": NAME, "values": [...]}                not answered

Values are plain. Workers of two versions can be connected to one supervisor during an upgrade, so unknown
events are ignored, and unknown calls answered by an error.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from itertools import count
from typing import Any, Final, final

from twisted.internet.defer import Deferred, DeferredQueue
from twisted.logger import Logger
from twisted.protocols.basic import Int32StringReceiver
from twisted.python.failure import Failure

from gateway.errors import GatewayError

_log = Logger()

# A list of 1,000 sessions has 2 MB.
_MOST_BYTES: Final = 64 * 1024 * 1024
_LATE_S: Final = 1.0

_CLOSED: Final = Failure(ConnectionError())

Handler = Callable[..., Awaitable[Any]]
StreamHandler = Callable[..., AsyncIterator[Any]]


class CallFailed(GatewayError):
    """The other process has not answered in time, has ended, or has answered with an error."""


@final
class Channel(Int32StringReceiver):
    """``calls`` and ``streams`` answer the other process's calls; ``events`` receive its events.

    ``lost`` is called once when the other process has closed the connection. A fault of an event's function
    is logged, and ends nothing: without the channel, the worker would end with its sessions.
    """

    MAX_LENGTH = _MOST_BYTES

    def __init__(
        self,
        reactor: Any,
        events: Mapping[str, Callable[..., object]],
        lost: Callable[[], object],
        calls: Mapping[str, Handler] | None = None,
        streams: Mapping[str, StreamHandler] | None = None,
    ) -> None:
        self._reactor = reactor
        self._events = events
        self._lost = lost
        self._calls = calls or {}
        self._streams = streams or {}
        # Not from 0: answers to calls of a supervisor that was replaced can still arrive.
        self._ids = count(int.from_bytes(os.urandom(6), "big"))
        self._waiting: dict[int, DeferredQueue[tuple[str, Any]]] = {}

    # This process calls

    async def call(self, name: str, *values: Any, seconds: float = _LATE_S) -> Any:
        """The result of a call. Raises CallFailed."""
        async for kind, value in self._answers(name, values, seconds):
            if kind == "result":
                return value
        raise CallFailed(f"{name}: no result")

    async def stream(self, name: str, *values: Any, seconds: float = _LATE_S) -> AsyncIterator[Any]:
        """The parts that a call gives; each must arrive within ``seconds``. Raises CallFailed."""
        async for kind, value in self._answers(name, values, seconds):
            if kind == "part":
                yield value

    def tell(self, name: str, *values: Any) -> None:
        """Send an event."""
        self._send({"event": name, "values": values})

    async def _answers(
        self, name: str, values: tuple[Any, ...], seconds: float
    ) -> AsyncIterator[tuple[str, Any]]:
        number = next(self._ids)
        answers = self._waiting[number] = DeferredQueue()
        self._send({"call": number, "name": name, "values": values})
        try:
            kind = "part"
            while kind == "part":
                answer: Deferred[tuple[str, Any]] = answers.get()
                late = self._reactor.callLater(
                    seconds, answers.put, ("error", f"no answer within {seconds:g} s")
                )
                try:
                    kind, value = await answer
                finally:
                    if late.active():
                        late.cancel()
                if kind == "error":
                    raise CallFailed(f"{name}: {value}")
                yield kind, value
        finally:
            self._waiting.pop(number, None)

    def _send(self, message: Mapping[str, Any]) -> None:
        if self.transport is not None and self.connected:
            text = json.dumps(message, separators=(",", ":"))
            self.sendString(text.encode())  # type: ignore[no-untyped-call]

    # Twisted calls

    def stringReceived(self, string: bytes) -> None:
        message = json.loads(string)
        if "event" in message:
            self._happened(message["event"], message["values"])
        elif "call" in message:
            Deferred.fromCoroutine(self._answer(message)).addErrback(
                lambda failure: _log.failure("a call of another process failed", failure)
            )
        else:
            self._answered(message)

    def _happened(self, event: str, values: list[Any]) -> None:
        handler = self._events.get(event)
        if handler is None:
            return
        try:
            handler(*values)
        except Exception:
            _log.failure("{event} failed", event=event)

    def connectionLost(self, reason: Failure = _CLOSED) -> None:
        for answers in tuple(self._waiting.values()):
            answers.put(("error", "the other process has ended"))
        self._lost()

    def _answered(self, message: Mapping[str, Any]) -> None:
        for kind in ("part", "result", "error"):
            answers = self._waiting.get(message.get(kind, -1))
            if answers is not None:
                answers.put((kind, message.get("text", message.get("value"))))

    async def _answer(self, message: Mapping[str, Any]) -> None:
        number, name, values = message["call"], message["name"], message["values"]
        try:
            if name in self._streams:
                async for part in self._streams[name](*values):
                    self._send({"part": number, "value": part})
                result = None
            elif name in self._calls:
                result = await self._calls[name](*values)
            else:
                raise CallFailed("unknown")
        except Exception as error:
            if not isinstance(error, GatewayError):
                _log.failure("{name} failed", name=name)
            self._send({"error": number, "text": str(error) or type(error).__name__})
        else:
            self._send({"result": number, "value": result})
