"""The channel between supervisor and worker, with both ends in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from gateway.errors import GatewayError
from gateway.workers.channel import CallFailed, Channel
from tests.helpers.logged import logged


class Pair:
    """``one`` calls ``other``."""

    def __init__(self, **other: Any) -> None:
        self.clock = Clock()
        self.lost = 0
        self.one = Channel(self.clock, {}, self._lose)
        self.other = Channel(self.clock, other.get("events", {}), lambda: None, **_without(other))
        self.ends = [(self.one, StringTransport()), (self.other, StringTransport())]
        for channel, transport in self.ends:
            channel.makeConnection(transport)

    def _lose(self) -> None:
        self.lost += 1

    def run(self) -> None:
        """Deliver all that was written."""
        (one, from_one), (other, from_other) = self.ends
        while from_one.value() or from_other.value():
            for transport, reader in ((from_one, other), (from_other, one)):
                data = transport.value()
                transport.clear()
                # In pieces, as a socket may deliver it.
                for at in range(0, len(data), 7):
                    reader.dataReceived(data[at : at + 7])

    def result_of(self, call: Any) -> Any:
        self.results: list[Any] = []
        Deferred.fromCoroutine(call).addBoth(self.results.append)
        self.run()
        return self.results[0] if self.results else None


def _without(other: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in other.items() if name != "events"}


async def double(value: int) -> int:
    return 2 * value


async def refuse() -> None:
    raise GatewayError("not now")


async def fail() -> None:
    raise ZeroDivisionError("oops")


async def count_to(most: int) -> AsyncIterator[int]:
    for number in range(most):
        yield number


async def collected(channel: Channel, *call: Any) -> list[Any]:
    return [part async for part in channel.stream(*call)]


def test_a_call_has_its_result() -> None:
    pair = Pair(calls={"double": double})
    assert pair.result_of(pair.one.call("double", 21)) == 42


def test_a_stream_has_all_parts_in_order() -> None:
    pair = Pair(streams={"count": count_to})
    assert pair.result_of(collected(pair.one, "count", 5)) == [0, 1, 2, 3, 4]


def test_events_are_received_and_unknown_ones_ignored() -> None:
    heard: list[Any] = []
    pair = Pair(events={"ready": heard.append})
    pair.one.tell("unknown", 1)
    pair.one.tell("ready", 7)
    pair.run()
    assert heard == [7]


def test_a_fault_of_an_event_is_logged_and_the_channel_goes_on() -> None:
    heard: list[Any] = []

    def fail(value: int) -> None:
        raise ZeroDivisionError("oops")

    pair = Pair(events={"fails": fail, "ready": heard.append})
    # Another version can have further values.
    for event, values in (("fails", (1,)), ("ready", (1, 2)), ("ready", (7,))):
        pair.one.tell(event, *values)
    with logged() as lines:
        pair.run()
    assert heard == [7]
    assert [line.partition("\n")[0] for line in lines] == [
        "critical: fails failed",
        "critical: ready failed",
    ]


@pytest.mark.parametrize(
    ("name", "cause"), [("refuse", "not now"), ("unknown", "unknown"), ("fail", "oops")]
)
def test_a_failed_call_has_the_reason(name: str, cause: str) -> None:
    pair = Pair(calls={"refuse": refuse, "fail": fail})
    failure = pair.result_of(pair.one.call(name))
    assert failure.check(CallFailed)
    assert cause in failure.getErrorMessage()


def test_a_call_that_is_not_answered_in_time_fails() -> None:
    pair = Pair()
    pair.ends[0][1].clear()
    results: list[Any] = []
    Deferred.fromCoroutine(pair.one.call("double", 1, seconds=1.0)).addBoth(results.append)
    pair.clock.advance(0.9)
    assert results == []
    pair.clock.advance(0.2)
    assert results[0].check(CallFailed)
    assert not pair.one._waiting


def test_calls_fail_when_the_other_process_ends() -> None:
    pair = Pair()
    results: list[Any] = []
    for _ in range(3):
        Deferred.fromCoroutine(pair.one.call("double", 1)).addBoth(results.append)
    pair.one.connectionLost()
    assert [each.check(CallFailed) for each in results] == [CallFailed] * 3
    assert pair.lost == 1
