"""Listening ports when the system has no descriptor or memory for a connection."""

from __future__ import annotations

import os
import socket
from errno import EAGAIN, EMFILE, ENFILE, ENOBUFS, ENOMEM
from time import monotonic
from typing import Any

import pytest
from twisted.internet import tcp

from gateway.listeners import accepting_ports
from gateway.listeners.accepting_ports import AdoptedUnixPort, EagerPort, EagerUnixPort
from gateway.logs import RepeatedWarnings
from gateway.transport import EagerServer
from tests.helpers.logged import logged
from tests.helpers.tcp_pairs import Servers, Speaker
from tests.helpers.turning import Turning

pytest_plugins = ["tests.helpers.tcp_pair_fixtures"]


class Exhausted:
    """A listening socket of a process that has no descriptor left but the reserved one."""

    # Of ListeningSocket: this test has no reactor for the pause.
    failed = False

    def __init__(self, waiting: int, error: int) -> None:
        self._waiting = waiting
        self._error = error
        self._failed = False

    def accept(self) -> tuple[Closing, tuple[str, int]]:
        if not self._failed:
            self._failed = True
            raise OSError(self._error, "")
        if not self._waiting:
            raise BlockingIOError(EAGAIN, "")
        self._waiting -= 1
        return Closing(), ("192.0.2.1", 1)


class Closing:
    def close(self) -> None:
        pass


@pytest.mark.parametrize("port", [EagerPort, EagerUnixPort, AdoptedUnixPort])
@pytest.mark.parametrize(
    ("error", "words"),
    [(EMFILE, "no file descriptors are left"), (ENFILE, "connection not accepted: ENFILE")],
)
def test_many_connections_without_free_descriptors_cause_one_warning(
    port: Any, error: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accepting_ports, "repeated", RepeatedWarnings(lambda: 0.0))
    listening = port.__new__(port)
    tcp._reservedFD.reserve()
    with logged() as lines:
        for _ in range(5):
            listening.numberAccepts = 100
            listening.socket = Exhausted(3, error)
            listening.doRead()
    (line,) = lines
    assert line.startswith("warn: ")
    assert words in line
    (cause,) = accepting_ports.repeated._causes.values()
    assert cause.count == (14 if error == EMFILE else 4)


def test_a_reserved_descriptor_that_cannot_be_reopened_causes_one_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(accepting_ports, "repeated", RepeatedWarnings(lambda: 0.0))

    def fail() -> Closing:
        raise OSError(EMFILE, "")

    reservation = tcp._FileDescriptorReservation(fail)
    with logged() as lines:
        for _ in range(5):
            reservation.reserve()
    assert lines == ["warn: the reserved file descriptor was taken by another use"]


@pytest.mark.parametrize("number", [EMFILE, ENFILE, ENOBUFS, ENOMEM])
def test_a_port_that_cannot_accept_waits_before_the_next_attempt(
    turning: Turning, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The connection stays in the accept queue; without the wait, the reactor tries in every turn."""
    factory = Servers(Speaker)
    port = EagerPort(0, factory, 50, "127.0.0.1", turning.reactor)
    port.startListening()
    tried: list[float] = []

    def refuse(_: object) -> None:
        tried.append(monotonic())
        raise OSError(number, os.strerror(number))

    with socket.create_connection(("127.0.0.1", port.getHost().port)):
        with monkeypatch.context() as patch:
            patch.setattr(socket.socket, "accept", refuse)
            turning.until(lambda: tried)
            until = monotonic() + 0.35
            turning.until(lambda: monotonic() > until)
            # Twisted tries twice: again after it has closed the descriptor that it keeps for this.
            assert 2 <= len(tried) <= 10
            assert not factory.made
        turning.until(lambda: factory.made and factory.made[0].transport)


def test_a_port_that_is_closed_while_it_waits_stays_closed(
    turning: Turning, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = EagerPort(0, Servers(Speaker), 50, "127.0.0.1", turning.reactor)
    port.startListening()
    tried: list[float] = []

    def refuse(_: object) -> None:
        tried.append(monotonic())
        raise OSError(ENFILE, os.strerror(ENFILE))

    with socket.create_connection(("127.0.0.1", port.getHost().port)):
        monkeypatch.setattr(socket.socket, "accept", refuse)
        turning.until(lambda: tried)
        port.stopListening()
        until = monotonic() + 0.3
        turning.until(lambda: monotonic() > until)
    assert len(tried) == 1


def test_twisted_makes_the_connections_of_the_ports() -> None:
    assert "transport" in tcp.Port.doRead.__code__.co_names
    assert EagerPort.transport is EagerServer
