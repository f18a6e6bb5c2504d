"""All protocols on the same ports: ffmpeg and rtmpdump over rtmp, rtmps, rtmpt, rtmpts and rtmpe."""

from __future__ import annotations

import random
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Event, Thread
from time import sleep

import pytest

from tests.helpers.interop.clients import LOST_BY_FFMPEG, FFmpegPlayer, RtmpdumpPlayer, publish, url
from tests.helpers.interop.clips import Packet
from tests.helpers.interop.programs import Programs, until
from tests.helpers.interop.rtmpe import encrypted
from tests.helpers.interop.secure import (
    OTHER_PLAIN,
    PLAIN,
    SECURE,
    Authority,
    Gateway,
    make_authority,
    start,
)
from tests.helpers.interop.servers import LOOPBACK
from tests.helpers.interop.streams import WAYS, Talk, connected, seconds_until_media
from tests.helpers.interop.tap import Tap
from tests.helpers.rtmp_client import KEYFRAME, VIDEO_HEADER, video
from tests.interop.conftest import Upstream

NAME = "a.example"
_PUBLISHED_S = 20.0
_PLAYED_S = 20.0
# The way, and which of the gateway's ports it is tried on; as players do it (PROTOCOL.md).
_TRIES = (
    ("rtmp", PLAIN),
    ("rtmp", SECURE),
    ("rtmp", OTHER_PLAIN),
    ("rtmpt", OTHER_PLAIN),
    ("rtmps", SECURE),
)
_FIRST_FRAME_S = 0.5
# As long as S0, S1 and S2 are.
_OPAQUE = b"\x06" + random.Random(1).randbytes(2 * 1536)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path)


@pytest.fixture(scope="module")
def lasting() -> dict[str, Gateway]:
    """The gateways that ``secure`` has started, by their servers."""
    return {}


@pytest.fixture
def secure(
    lasting_programs: Programs, lasting: dict[str, Gateway], upstream: Upstream, tmp_path: Path
) -> Gateway:
    """A gateway in front of ``upstream``, which serves all tests."""
    if upstream.server not in lasting:
        certificate = make_authority(tmp_path).certify("site.pem", NAME)
        lasting[upstream.server] = start(lasting_programs, [certificate], upstream.server)
    return lasting[upstream.server]


@pytest.mark.parametrize("way", WAYS)
def test_ffmpeg_can_publish_and_play_over_each_protocol(
    way: str,
    programs: Programs,
    upstream: Upstream,
    secure: Gateway,
    stream: str,
    clip: Path,
    packets: list[Packet],
) -> None:
    source = url(way, secure.port(way), stream)
    player = FFmpegPlayer(programs, source)
    upstream.tap.players(1)
    assert publish(programs, clip, source, in_real_time=False).ends(_PUBLISHED_S) == 0
    assert player.program.ends(_PLAYED_S) == 0
    lost = LOST_BY_FFMPEG if way.startswith("rtmpt") else 0
    got = player.packets()
    assert got == packets[: len(got)]
    assert len(packets) - len(got) <= lost


@pytest.mark.parametrize("way", ["rtmp", "rtmpt", "rtmpts"])
def test_rtmpdump_can_play_over_each_protocol(
    way: str,
    programs: Programs,
    upstream: Upstream,
    secure: Gateway,
    stream: str,
    clip: Path,
    packets: list[Packet],
) -> None:
    player = RtmpdumpPlayer(programs, url(way, secure.port(way), stream))
    upstream.tap.players(1)
    publish(programs, clip, url("rtmp", upstream.tap.port, stream)).ends(_PUBLISHED_S)
    assert player.program.ends(_PLAYED_S) == 0
    assert player.packets() == packets


@pytest.mark.parametrize("way", ["rtmpe", "rtmpte"])
@pytest.mark.parametrize("upstream", ["origin"], indirect=True)
def test_rtmpdump_can_play_rtmpe_from_an_rtmpe_upstream(
    way: str,
    programs: Programs,
    authority: Authority,
    upstream: Upstream,
    stream: str,
    clip: Path,
    packets: list[Packet],
) -> None:
    with encrypted(upstream.tap.port) as port:
        gateway = start(programs, [authority.certify("site.pem", NAME)], f"{LOOPBACK}:{port}")
        player = RtmpdumpPlayer(programs, url(way, gateway.ports[PLAIN], stream))
        upstream.tap.players(1)
        publish(programs, clip, url("rtmp", upstream.tap.port, stream)).ends(_PUBLISHED_S)
        assert player.program.ends(_PLAYED_S) == 0
    assert player.packets() == packets


@pytest.fixture
def opaque() -> Iterator[tuple[int, list[bytes]]]:
    """A peer that answers the RTMPE handshake with arbitrary bytes: its port and the received data."""
    heard: list[bytes] = []

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.sendall(_OPAQUE)
            while data := connection.recv(65536):
                heard.append(data)

    with socket.create_server((LOOPBACK, 0)) as listening:
        server = Thread(target=serve)
        server.start()
        yield listening.getsockname()[1], heard
        server.join()


def test_rtmpe_is_relayed_unchanged_in_both_directions(
    programs: Programs, authority: Authority, opaque: tuple[int, list[bytes]], tmp_path: Path
) -> None:
    """rtmpdump sends a real handshake; the answer has no meaning for it."""
    port, heard = opaque
    gateway = start(programs, [authority.certify("site.pem", NAME)], f"{LOOPBACK}:{port}")
    with closing(Tap(gateway.ports[PLAIN])) as tap:
        source = url("rtmpe", tap.port, "live/any")
        dump = programs.start("rtmpdump", "-r", source, "--live", "-o", "out.flv")
        until(lambda: tap.links and len(tap.links[0].down) == len(_OPAQUE), "the answer comes")
        dump.stop()
        (link,) = tap.links
        assert link.up[0] in (6, 8, 9)
        until(lambda: len(b"".join(heard)) == len(link.up), "all has come through")
        assert b"".join(heard) == link.up
        assert link.down == _OPAQUE


@pytest.fixture
def trusting(authority: Authority) -> ssl.SSLContext:
    return authority.client_context()


@pytest.fixture
def alone(programs: Programs, authority: Authority) -> Gateway:
    """A gateway whose configuration has only ports and a certificate."""
    return start(programs, [authority.certify("site.pem", NAME)], "")


@pytest.fixture
def live(alone: Gateway, trusting: ssl.SSLContext, stream: str) -> Iterator[str]:
    """The path of a stream that is published during the test, and consists of keyframes."""
    stop = Event()

    def run() -> None:
        with connected("rtmp", alone.ports[PLAIN], trusting, NAME) as way_in:
            talk = Talk(way_in)
            talk.start("publish", stream)
            talk.send(video(VIDEO_HEADER))
            started.set()
            timestamp = 0
            while not stop.is_set():
                timestamp += 20
                talk.send(video(KEYFRAME, timestamp))
                sleep(0.02)

    started = Event()
    publisher = Thread(target=run)
    publisher.start()
    assert started.wait(10)
    yield stream
    stop.set()
    publisher.join()


def test_a_player_gets_the_first_frame_at_once_over_each_protocol_and_port(
    alone: Gateway, trusting: ssl.SSLContext, live: str
) -> None:
    took = {
        (way, port): seconds_until_media(way, alone.ports[port], trusting, NAME, live)
        for way, port in _TRIES
    }
    print({f"{way}:{port}": f"{seconds * 1000:.1f} ms" for (way, port), seconds in took.items()})
    assert max(took.values()) < _FIRST_FRAME_S
