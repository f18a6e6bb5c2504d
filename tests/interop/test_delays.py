"""A request in two segments does not wait for a delayed acknowledgement.

FFmpeg writes a request's head and its body one after the other, on a socket without TCP_NODELAY: its
kernel sends the body only when the head is acknowledged, and the receiver's kernel delays that, by 40 ms
on Linux, in the hope of an answer to send it with (PROTOCOL.md, What each client needs).
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from threading import Thread
from time import perf_counter

import pytest

from tests.helpers.interop.clients import publish, url
from tests.helpers.interop.programs import Programs
from tests.helpers.interop.servers import LOOPBACK
from tests.interop.conftest import Upstream

_REQUESTS = 40
# Half of Linux's shortest delay (TCP_DELACK_MIN). Without it, a request over loopback takes some 0.2 ms.
_STALL_S = 0.020


def request_times(port: int) -> list[float]:
    """The durations of many requests that are sent as FFmpeg sends them."""
    with socket.create_connection((LOOPBACK, port)) as connection:
        session = _post(connection, "/open/1", b"\x00").decode().strip()
        return [
            _timed(connection, f"/send/{session}/{number}", bytes([3] + [0] * 60))
            for number in range(_REQUESTS)
        ]


def _timed(connection: socket.socket, target: str, body: bytes) -> float:
    begun = perf_counter()
    _post(connection, target, body)
    return perf_counter() - begun


def _post(connection: socket.socket, target: str, body: bytes) -> bytes:
    head = f"POST {target} HTTP/1.1\r\nHost: gateway\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode())
    connection.sendall(body)
    return _answer(connection)


def _answer(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += _some(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += _some(connection)
    return body


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(64 * 1024)
    assert data, "the connection has ended"
    return data


@pytest.fixture
def upstream(origin: Upstream) -> Upstream:
    """Any one upstream is sufficient for these tests."""
    return origin


@pytest.fixture
def ordinary_server() -> Iterator[int]:
    """The port of a server that answers each complete request, without immediate acknowledgements."""
    with socket.create_server((LOOPBACK, 0)) as listening:
        thread = Thread(target=_serve_one, args=(listening,))
        thread.start()
        yield listening.getsockname()[1]
        thread.join()


def _serve_one(listening: socket.socket) -> None:
    connection, _ = listening.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection:
        data = b""
        while received := connection.recv(64 * 1024):
            data += received
            _, end_of_head, body = data.partition(b"\r\n\r\n")
            if end_of_head and len(body) == int(data.split(b"Content-Length: ")[1].split()[0]):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n\x01")
                data = b""


def test_a_request_in_two_segments_is_answered_without_delay(gateway: int) -> None:
    assert median(request_times(gateway)) < _STALL_S


def test_a_request_in_two_segments_to_an_ordinary_server_is_delayed(ordinary_server: int) -> None:
    """Without this delay, the test above proves nothing."""
    assert median(request_times(ordinary_server)) > _STALL_S


def test_media_published_by_ffmpeg_is_not_delayed(
    programs: Programs, upstream: Upstream, gateway: int, stream: str, clip: Path
) -> None:
    publisher = publish(programs, clip, url("rtmpt", gateway, stream), in_real_time=False)
    assert publisher.ends(20) == 0
    (link,) = upstream.tap.links
    media_times = link.up_times[-10:]
    gaps = [after - before for before, after in pairwise(media_times)]
    assert median(gaps) < _STALL_S
