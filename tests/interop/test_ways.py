"""Every way in, on the same ports: ffmpeg and rtmpdump over rtmp, rtmps, rtmpt, rtmpts and rtmpe."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Event, Thread
from time import sleep

import pytest

from tests.interop.clients import LOST_BY_FFMPEG, FFmpegPlayer, RtmpdumpPlayer, publish, url
from tests.interop.clips import Packet
from tests.interop.conftest import Upstream
from tests.interop.programs import Programs, until
from tests.interop.secure import (
    OTHER_PLAIN,
    PLAIN,
    SECURE,
    Authority,
    Gateway,
    make_authority,
    start,
)
from tests.interop.streams import WAYS, Talk, connected, seconds_until_media
from tests.interop.tap import Tap
from tests.protocols.rtmp.client import KEYFRAME, VIDEO_HEADER, video

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


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path)


@pytest.fixture
def secure(programs: Programs, upstream: Upstream, authority: Authority) -> Gateway:
    return start(programs, [authority.certify("site.pem", NAME)], upstream.server)


@pytest.mark.parametrize("way", WAYS)
def test_ffmpeg_publishes_and_plays(
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
def test_rtmpdump_plays(
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


@pytest.mark.parametrize("upstream", ["nginx"], indirect=True)
def test_rtmpdumps_rtmpe_passes_unread(
    programs: Programs, upstream: Upstream, secure: Gateway
) -> None:
    """nginx does not speak it: what counts is that it gets what rtmpdump said, and rtmpdump its answer."""
    with closing(Tap(secure.ports[PLAIN])) as tap:
        dump = programs.start(
            "rtmpdump", "-r", url("rtmpe", tap.port, "live/any"), "--live", "-o", "out.flv"
        )
        until(lambda: upstream.tap.links and len(upstream.tap.links[0].up) >= 1537, "C0 and C1")
        until(lambda: len(tap.links[0].down) >= 1537, "S0 and S1")
        dump.stop()
        for before, behind in ((tap.links[0], upstream.tap.links[0]),):
            assert before.up[0] in (6, 8, 9)
            assert behind.up[: len(before.up)] == before.up[: len(behind.up)]
            assert behind.down[: len(before.down)] == before.down[: len(behind.down)]


@pytest.fixture
def trusting(authority: Authority) -> ssl.SSLContext:
    return authority.client_context()


@pytest.fixture
def live(secure: Gateway, trusting: ssl.SSLContext, stream: str) -> Iterator[str]:
    """The path of a stream that is published all the while, with nothing but keyframes."""
    stop = Event()

    def run() -> None:
        with connected("rtmp", secure.ports[PLAIN], trusting, NAME) as way_in:
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


@pytest.mark.parametrize("upstream", ["origin"], indirect=True)
def test_each_of_a_players_tries_shows_a_frame_at_once(
    secure: Gateway, trusting: ssl.SSLContext, live: str
) -> None:
    took = {
        (way, port): seconds_until_media(way, secure.ports[port], trusting, NAME, live)
        for way, port in _TRIES
    }
    print({f"{way}:{port}": f"{seconds * 1000:.1f} ms" for (way, port), seconds in took.items()})
    assert max(took.values()) < _FIRST_FRAME_S
