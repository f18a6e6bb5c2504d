"""Detection of peers that have vanished: the kernel's options, and the reasons of lost connections."""

from __future__ import annotations

import socket

import pytest
from twisted.internet import error
from twisted.python.failure import Failure

from gateway.vanished_peers import has_vanished, notice_vanished

OPTIONS = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)


@pytest.mark.parametrize(
    ("vanished_s", "values"), [(15.0, [5, 1, 127, 15_000]), (1.5, [1, 1, 127, 1_500])]
)
def test_a_connection_inherits_the_options_of_its_listening_socket(
    vanished_s: float, values: list[int]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        notice_vanished(listening, vanished_s)
        with socket.create_connection(listening.getsockname()):
            accepted, _ = listening.accept()
            with accepted:
                assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
                assert [accepted.getsockopt(socket.IPPROTO_TCP, each) for each in OPTIONS] == values


def test_a_unix_socket_has_no_such_options_and_is_left_as_it_is() -> None:
    with socket.socket(socket.AF_UNIX) as unconnected:
        notice_vanished(unconnected, 15.0)
        assert unconnected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0


@pytest.mark.parametrize(
    ("reason", "vanished"),
    [
        (error.TimeoutError(), True),
        (error.ConnectionLost(), False),
        (error.ConnectionDone(), False),
    ],
)
def test_a_connection_that_timed_out_has_a_vanished_peer(reason: Exception, vanished: bool) -> None:
    assert has_vanished(Failure(reason)) is vanished
