"""The UDP sockets of the supervisor: one for each worker, over reloads and its succession."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from gateway.configuration import loading
from gateway.configuration.sections import Config
from gateway.errors import ConfigurationError
from gateway.supervisor.datagram_sockets import DatagramSockets


def configuration(*addresses: str) -> Config:
    return loading.from_document(
        "FILE",
        {
            "listener": [{"address": "127.0.0.1:0"}],
            "udp": [{"address": address, "server": "media"} for address in addresses],
        },
    )


@pytest.fixture
def sockets() -> Iterator[DatagramSockets]:
    with closing(DatagramSockets()) as opened:
        yield opened


def test_all_workers_have_a_socket_at_the_same_address(sockets: DatagramSockets) -> None:
    first, second = sockets.open(configuration("127.0.0.1:0", "127.0.0.1:0"), 3)
    assert len({each.getsockname() for each in first}) == 1
    assert len({each.fileno() for each in (*first, *second)}) == 6
    assert first[0].getsockname() != second[0].getsockname()


def test_sockets_that_stay_are_kept_and_those_of_further_workers_are_added(
    sockets: DatagramSockets,
) -> None:
    (before,) = sockets.open(configuration("127.0.0.1:0"), 2)
    (after,) = sockets.open(configuration("127.0.0.1:0"), 3)
    assert after[:2] == before
    assert after[2].getsockname() == before[0].getsockname()


def test_sockets_that_no_worker_reads_are_closed(sockets: DatagramSockets) -> None:
    ((kept, other),) = sockets.open(configuration("127.0.0.1:0"), 2)
    sockets.close_others(configuration("127.0.0.1:0"), 1)
    assert (kept.fileno() != -1, other.fileno()) == (True, -1)


def test_an_address_in_use_is_refused_with_its_place_and_opens_nothing(
    sockets: DatagramSockets,
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        used = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigurationError) as refused:
            sockets.open(configuration("127.0.0.1:0", used), 2)
    assert f'FILE: [[udp]] 2, key "address": "{used}": in use: another program' in str(
        refused.value
    )
    assert sockets.of(configuration("127.0.0.1:0"), 2) == [[]]


def test_the_kernel_selects_no_copy_that_a_failed_upgrade_has_made(
    sockets: DatagramSockets,
) -> None:
    ((own,),) = sockets.open(configuration("127.0.0.1:0"), 1)
    with ExitStack() as closing_copies:
        (copy,) = sockets.hand_over(closing_copies)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(copy.descriptor)
    assert own.fileno() >= 0


def test_a_successor_has_the_same_sockets(sockets: DatagramSockets) -> None:
    (before,) = sockets.open(configuration("127.0.0.1:0"), 2)
    with closing(DatagramSockets()) as successor:
        successor.adopt(sockets.hand_over(ExitStack()))
        sockets.close()
        (after,) = successor.open(configuration("127.0.0.1:0"), 2)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"hello", after[0].getsockname())
            received = []
            for each in after:
                each.settimeout(0.0)
                try:
                    received.append(each.recv(9))
                except BlockingIOError:
                    continue
        assert received == [b"hello"]
    assert len(before) == 2
