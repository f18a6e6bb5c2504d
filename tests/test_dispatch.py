"""Dispatch of the reactor's events, by Twisted's own loop and by the gateway's: both behave alike."""

from __future__ import annotations

import socket

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.testing import MemoryReactor
from twisted.python.failure import Failure

from gateway.dispatch import dispatch_directly
from tests.helpers.turning import Turning

pytest_plugins = ["tests.helpers.tcp_pair_fixtures"]


def test_an_exception_in_a_protocol_ends_only_its_connection_and_is_logged(
    turning: Turning, accept, errors
) -> None:
    speaker, peer = accept()
    other, other_peer = accept()

    def fail(data: bytes) -> None:
        raise ZeroDivisionError(data)

    speaker.on_data = fail
    peer.sock.send(b"a")
    other_peer.sock.send(b"b")
    turning.until(lambda: speaker.lost and other.received)
    peer.read_to_the_end()
    assert [reason.type for reason in speaker.lost] == [ZeroDivisionError]
    assert [failure.type for failure in errors] == [ZeroDivisionError]
    assert "in fail" in errors[0].getTraceback()
    errors.clear()
    assert other.lost == []


def test_an_exception_in_connection_lost_does_not_end_other_connections(
    turning: Turning, accept, errors
) -> None:
    speaker, peer = accept()
    other, other_peer = accept()

    def fail(reason: Failure) -> None:
        raise ZeroDivisionError(reason)

    speaker.connectionLost = fail
    peer.sock.shutdown(socket.SHUT_WR)
    other_peer.sock.send(b"b")
    turning.until(lambda: other.received)
    turning.until(lambda: errors)
    assert [failure.type for failure in errors] == [ZeroDivisionError]
    errors.clear()
    other_peer.sock.send(b"c")
    turning.until(lambda: b"".join(other.received) == b"bc")


def test_a_connection_may_end_another_readable_connection(turning: Turning, accept, errors) -> None:
    """Both connections are in one batch of events; the first one ends the other."""
    first, first_peer = accept()
    second, second_peer = accept()
    for speaker, victim in ((first, second), (second, first)):
        speaker.on_data = lambda _data, victim=victim: victim.transport.connectionLost(
            Failure(RuntimeError("another's"))
        )
    first_peer.sock.send(b"a")
    second_peer.sock.send(b"b")
    turning.until(lambda: first.lost or second.lost)
    turning.settle()
    assert len(first.lost) + len(second.lost) == 1


def test_an_abort_while_receiving_ends_the_connection_once(
    turning: Turning, accept, errors
) -> None:
    speaker, peer = accept()
    speaker.on_data = lambda _data: speaker.transport.abortConnection()
    peer.sock.send(b"a")
    turning.until(lambda: speaker.lost)
    turning.settle()
    assert len(speaker.lost) == 1


def test_timed_calls_are_made_while_connections_are_busy(turning: Turning, accept) -> None:
    speaker, peer = accept()
    made: list[int] = []
    turning.reactor.callLater(0, made.append, 1)
    peer.sock.send(b"a")
    turning.until(lambda: made and speaker.received)


def test_only_the_unmodified_epoll_reactor_uses_direct_dispatch() -> None:
    class Another(EPollReactor):
        """A subclass, whose loop may be different."""

    another = Another()
    selecting = SelectReactor()
    try:
        for reactor in (another, selecting, MemoryReactor(), object()):
            before = getattr(reactor, "doIteration", None)
            assert dispatch_directly(reactor) is False
            assert getattr(reactor, "doIteration", None) == before
    finally:
        for reactor in (another, selecting):
            for reader in tuple(reactor._internalReaders):
                reactor._removeInternalReader(reader)
                reader.connectionLost(None)
        another._poller.close()


def test_the_used_internals_of_the_reactor_exist(turning: Turning) -> None:
    reactor = turning.reactor
    assert callable(reactor._poller.poll)
    assert isinstance(reactor._selectables, dict)
    assert callable(reactor._doReadOrWrite)
    assert callable(reactor._disconnectSelectable)
