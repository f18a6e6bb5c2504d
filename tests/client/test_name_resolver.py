"""Look-ups of names in threads of their own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock

from gateway.client.name_resolver import NameResolver

ANSWERS = [
    (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 0, 0, 0)),
    (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0)),
]
BOTH = ["2001:db8::1", "192.0.2.1"]


class Receiver:
    """Twisted's IResolutionReceiver."""

    def __init__(self) -> None:
        self.hosts: list[str] = []
        self.is_complete = False

    def resolutionBegan(self, resolution: object) -> None:
        assert not self.hosts

    def addressResolved(self, address: Any) -> None:
        assert not self.is_complete
        self.hosts.append(address.host)

    def resolutionComplete(self) -> None:
        assert not self.is_complete
        self.is_complete = True


class LookUps:
    """The system's look-ups, which a test answers, and the calls of their threads."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.threads: list[threading.Thread] = []
        self._answer = threading.Event()
        self._ended = threading.Semaphore(0)
        self._calls: list[Callable[[], object]] = []
        self.error: Exception | None = None
        clock.callFromThread = self._call_later  # type: ignore[method-assign,unused-ignore]
        self.resolver = NameResolver(clock, self._getaddrinfo)

    def begin(self, name: str = "a.example") -> Receiver:
        receiver = Receiver()
        self.resolver.resolveHostName(receiver, name)  # type: ignore[arg-type]
        return receiver

    def answer(self, number: int) -> None:
        """Answer all, and wait for the ends of so many threads."""
        self._answer.set()
        for _ in range(number):
            assert self._ended.acquire(timeout=10)
        while self._calls:
            self._calls.pop(0)()

    def _getaddrinfo(self, name: str, port: int, **options: int) -> list[Any]:
        assert options == {"type": socket.SOCK_STREAM}
        self.threads.append(threading.current_thread())
        assert self._answer.wait(10)
        if self.error is not None:
            raise self.error
        return ANSWERS

    def _call_later(self, function: Callable[..., object], *arguments: object) -> None:
        self._calls.append(lambda: function(*arguments))
        self._ended.release()


@pytest.fixture
def look_ups() -> Iterator[LookUps]:
    clock = Clock()
    made = LookUps(clock)
    yield made
    made.answer(0)


def test_addresses_of_both_families_arrive_in_the_systems_order(look_ups: LookUps) -> None:
    receiver = look_ups.begin()
    assert not receiver.is_complete
    look_ups.answer(1)
    assert (receiver.hosts, receiver.is_complete) == (BOTH, True)


def test_the_process_does_not_wait_for_a_look_up(look_ups: LookUps) -> None:
    look_ups.begin()
    look_ups.answer(1)
    assert [thread.daemon for thread in look_ups.threads] == [True]


@pytest.mark.parametrize("error", [socket.gaierror(-2, "x"), UnicodeError("label too long")])
def test_a_failed_look_up_has_no_addresses(look_ups: LookUps, error: Exception) -> None:
    look_ups.error = error
    receiver = look_ups.begin()
    look_ups.answer(1)
    assert (receiver.hosts, receiver.is_complete) == ([], True)


def test_look_ups_of_one_name_at_the_same_time_share_a_thread(look_ups: LookUps) -> None:
    receivers = [look_ups.begin() for _ in range(20)]
    other = look_ups.begin("b.example")
    look_ups.answer(2)
    assert len(look_ups.threads) == 2
    assert all(each.hosts == BOTH and each.is_complete for each in (*receivers, other))


def test_a_look_up_that_waits_for_long_is_not_shared(look_ups: LookUps) -> None:
    first = look_ups.begin()
    look_ups.clock.advance(1.0)
    second = look_ups.begin()
    look_ups.answer(2)
    assert len(look_ups.threads) == 2
    assert first.hosts == second.hosts == BOTH
