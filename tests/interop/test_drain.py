"""A stopping gateway lets sessions continue for a limited time, and accepts no new ones."""

from __future__ import annotations

import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

import pytest

from tests.helpers.interop.programs import Programs
from tests.helpers.interop.servers import LOOPBACK
from tests.helpers.interop.streams import Talk, connected
from tests.helpers.interop.watched import WatchedGateway, start_watched_gateway
from tests.helpers.rtmp_client import KEYFRAME, VIDEO_HEADER, video

# Far more than a gateway takes to end, and far less than it waits.
_AT_ONCE_S = 5.0
# twistd ends by the signal that stopped it, which systemd takes for success.
_ENDED = -signal.SIGTERM
_WAYS = ("rtmp", "rtmpt")


@pytest.fixture
def gateway(programs: Programs) -> WatchedGateway:
    return start_watched_gateway(programs)


@contextmanager
def published(gateway: WatchedGateway, way: str) -> Iterator[Talk]:
    """A session that publishes."""
    with connected(way, gateway.port, ssl.create_default_context(), "") as stream:
        talk = Talk(stream)
        talk.start("publish", "live/stream")
        talk.send(video(VIDEO_HEADER))
        yield talk


def stop(gateway: WatchedGateway) -> None:
    gateway.program.send(signal.SIGTERM)


def begin_to_stop(gateway: WatchedGateway) -> None:
    stop(gateway)
    gateway.program.says("stopping: 1 sessions may end by themselves")


def status_of_open(gateway: WatchedGateway) -> bytes:
    with socket.create_connection((LOOPBACK, gateway.port), 10) as client:
        client.sendall(b"POST /open/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n\0")
        return client.recv(65536).split(b" ")[1]


def test_a_stopping_gateway_without_sessions_ends_at_once(gateway: WatchedGateway) -> None:
    stop(gateway)
    assert gateway.program.ends(_AT_ONCE_S) == _ENDED


@pytest.mark.parametrize("way", _WAYS)
def test_a_session_continues_during_a_drain_and_opens_get_503(
    gateway: WatchedGateway, way: str
) -> None:
    with published(gateway, way) as talk:
        begin_to_stop(gateway)
        assert not gateway.is_ready
        assert status_of_open(gateway) == b"503"
        for number in range(20):
            talk.send(video(KEYFRAME, 40 * number))
        (session,) = gateway.sessions()
        assert session["state"] != "ended"
        talk.end()
        assert gateway.program.ends(_AT_ONCE_S) == _ENDED
    assert "ended: closed by the client" in gateway.program.log
    assert "Traceback" not in gateway.program.log


@pytest.mark.parametrize("way", _WAYS)
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_all_sessions_at_once(
    gateway: WatchedGateway, way: str, second: int
) -> None:
    with published(gateway, way):
        begin_to_stop(gateway)
        gateway.program.send(second)
        assert gateway.program.ends(_AT_ONCE_S) == _ENDED
    assert "ended: the gateway stopped" in gateway.program.log
    assert "Traceback" not in gateway.program.log


@pytest.mark.parametrize("seconds", [0, 1])
def test_a_remaining_session_is_ended_after_drain_s(programs: Programs, seconds: int) -> None:
    gateway = start_watched_gateway(programs, f"[limits]\ndrain_s = {seconds}\n")
    with published(gateway, "rtmp"):
        begun = monotonic()
        stop(gateway)
        assert gateway.program.ends(_AT_ONCE_S) == _ENDED
        assert seconds <= monotonic() - begun < seconds + 1
    assert "ended: the gateway stopped" in gateway.program.log
