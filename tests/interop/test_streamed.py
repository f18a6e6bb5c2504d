"""Streamed answers with unmodified programs: exact data, few requests, whole answers behind proxies."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from time import monotonic, sleep

import imageio_ffmpeg
import pytest

from tests.helpers.interop import seeking_player
from tests.helpers.interop.clients import (
    FFmpegPlayer,
    GStreamerPlayer,
    Player,
    RtmpdumpPlayer,
    current_ffmpeg_player,
    publish,
    url,
)
from tests.helpers.interop.clips import Packet, make_large_clip, make_long_clip, packets_of_media
from tests.helpers.interop.programs import Programs, needs, squid, squid_folder, until
from tests.helpers.interop.secure import SECURE, make_authority, start
from tests.helpers.interop.servers import LOOPBACK, run_nginx, start_gateway
from tests.helpers.interop.tap import Tap
from tests.interop.conftest import Upstream

MakePlayer = Callable[[Programs, str], Player]

_ENDS_S = 30.0
# By then six players have begun to play.
_DECODED_S = 5.0
# An idle each 0.4 s and some during connect and play, of a clip of 3 s and some 200 packets.
_FEW_REQUESTS = 60
# rtmpdump's status when it has got 99.8 % of a file, without the file's own head, directly too.
_RTMPDUMP_INCOMPLETE = 2
_KEPT_BACK_PACKETS = 30
# Stands in the head of each streamed answer, and of no other.
_STREAMED = b"no-transform"

each_player = pytest.mark.parametrize(
    "make_player",
    [FFmpegPlayer, current_ffmpeg_player, RtmpdumpPlayer, GStreamerPlayer],
    ids=["ffmpeg", "current ffmpeg", "rtmpdump", "gstreamer"],
)

# rtmpsrc plays a file again and again, directly too.
each_player_of_files = pytest.mark.parametrize(
    "make_player",
    [FFmpegPlayer, current_ffmpeg_player, RtmpdumpPlayer],
    ids=["ffmpeg", "current ffmpeg", "rtmpdump"],
)


def requests_through(tap: Tap) -> int:
    """The number of polls and sends on the connections of ``tap``."""
    return sum(len(re.findall(rb"POST \S*/(?:idle|send)/", bytes(link.up))) for link in tap.links)


def streams(tap: Tap) -> bool:
    """Whether the connections of ``tap`` carried streamed answers."""
    return any(_STREAMED in link.down for link in tap.links)


@contextmanager
def tapped(port: int) -> Iterator[Tap]:
    with closing(Tap(port)) as tap:
        yield tap


def play_live(
    programs: Programs, upstream: Upstream, clip: Path, stream: str, player: Player
) -> list[Packet]:
    """Publish the clip directly when ``player`` plays. Returns the player's packets."""
    upstream.tap.players(1)
    publish(programs, clip, url("rtmp", upstream.tap.port, stream)).ends(_ENDS_S)
    return played(player)


def played(player: Player) -> list[Packet]:
    """The packets of a player at the end of its stream."""
    if isinstance(player, GStreamerPlayer):
        # It waits for ever when a stream is over, directly too, and keeps back the last 4 KiB.
        size_bytes = -1
        while size_bytes != player.size_bytes:
            size_bytes = player.size_bytes
            sleep(2.0)
        player.program.stop()
    else:
        assert player.program.ends(_ENDS_S) in (0, _RTMPDUMP_INCOMPLETE)
    return player.packets()


def assert_whole(player: Player, got: list[Packet], sent: list[Packet]) -> None:
    if isinstance(player, GStreamerPlayer):
        assert got
        assert got == sent[: len(got)]
        assert len(sent) - len(got) <= _KEPT_BACK_PACKETS
    else:
        assert got == sent


@each_player
def test_a_streamed_live_stream_is_exact_and_needs_few_requests(
    make_player: MakePlayer,
    programs: Programs,
    upstream: Upstream,
    gateway: int,
    stream: str,
    clip: Path,
    packets: list[Packet],
) -> None:
    with tapped(gateway) as tap:
        player = make_player(programs, url("rtmpt", tap.port, stream))
        assert_whole(player, play_live(programs, upstream, clip, stream, player), packets)
        assert requests_through(tap) < _FEW_REQUESTS
        assert streams(tap)


# FFmpeg 9 verifies certificates, and its rtmpts has no option to trust the test's. Debian's rtmpsrc has no
# rtmpts.
@pytest.mark.parametrize("make_player", [FFmpegPlayer, RtmpdumpPlayer], ids=["ffmpeg", "rtmpdump"])
@pytest.mark.parametrize("upstream", ["nginx"], indirect=True)
def test_a_streamed_live_stream_over_tls_is_exact(
    make_player: MakePlayer,
    programs: Programs,
    upstream: Upstream,
    stream: str,
    clip: Path,
    packets: list[Packet],
    tmp_path: Path,
) -> None:
    authority = make_authority(tmp_path)
    gateway = start(programs, [authority.certify("site.pem", "localhost")], upstream.server)
    player = make_player(programs, url("rtmpts", gateway.ports[SECURE], stream))
    assert play_live(programs, upstream, clip, stream, player) == packets


@pytest.fixture(scope="session")
def large_clip(clips: Path) -> Path:
    return make_large_clip(clips / "large.flv")


@each_player_of_files
@pytest.mark.parametrize("upstream", ["nginx"], indirect=True)
def test_a_burst_of_20_megabytes_is_exact(
    make_player: MakePlayer, programs: Programs, upstream: Upstream, gateway: int, large_clip: Path
) -> None:
    assert large_clip.stat().st_size > 15e6
    player = make_player(programs, url("rtmpt", gateway, "vod/large.flv"))
    assert_whole(player, played(player), packets_of_media(large_clip))


@each_player
@pytest.mark.parametrize("upstream", ["origin"], indirect=True)
def test_no_packet_is_lost_when_the_upstream_pauses(
    make_player: MakePlayer,
    programs: Programs,
    upstream: Upstream,
    gateway: int,
    stream: str,
    clip: Path,
    packets: list[Packet],
) -> None:
    player = make_player(programs, url("rtmpt", gateway, stream))
    upstream.tap.players(1)
    publisher = publish(programs, clip, url("rtmp", upstream.tap.port, stream))
    upstream.tap.publishers(1)
    sleep(1.0)
    publisher.send(signal.SIGSTOP)
    sleep(10.0)
    publisher.send(signal.SIGCONT)
    publisher.ends(_ENDS_S)
    assert_whole(player, played(player), packets)


@each_player_of_files
@pytest.mark.parametrize("upstream", ["nginx"], indirect=True)
def test_no_packet_is_lost_for_a_slow_player(
    make_player: MakePlayer, programs: Programs, upstream: Upstream, gateway: int, large_clip: Path
) -> None:
    player = make_player(programs, url("rtmpt", gateway, "vod/large.flv"))
    for _ in range(3):
        sleep(0.3)
        player.program.send(signal.SIGSTOP)
        sleep(1.0)
        player.program.send(signal.SIGCONT)
    assert_whole(player, played(player), packets_of_media(large_clip))


@pytest.mark.alone
@pytest.mark.parametrize("ffmpeg", ["ffmpeg", imageio_ffmpeg.get_ffmpeg_exe()])
@pytest.mark.parametrize("upstream", ["origin"], indirect=True)
def test_ffmpeg_ends_at_once_when_q_is_pressed_during_a_streamed_answer(
    ffmpeg: str, programs: Programs, upstream: Upstream, gateway: int, stream: str, clip: Path
) -> None:
    publish(programs, clip, url("rtmp", upstream.tap.port, stream), in_a_loop=True)
    upstream.tap.publishers(1)
    sources = url("rtmp", upstream.tap.port, stream), url("rtmpt", gateway, stream)
    players = [[_decoding(ffmpeg, source) for _ in range(3)] for source in sources]
    sleep(_DECODED_S)
    direct, tunnelled = (median(map(_quitting_s, each)) for each in players)
    # FFmpeg reads the answer to its end, which comes after 0.4 s at this round trip time.
    assert tunnelled - direct < 0.5


def _decoding(ffmpeg: str, source: str) -> subprocess.Popen[bytes]:
    command = [needs(ffmpeg), "-v", "error", "-i", source, "-f", "null", os.devnull]
    return subprocess.Popen(command, stdin=subprocess.PIPE)


def _quitting_s(player: subprocess.Popen[bytes]) -> float:
    """From the key to the end."""
    began = monotonic()
    player.communicate(b"q", timeout=10)
    return monotonic() - began


# Actions that the ``ffmpeg`` program does not support

needs_libavformat = pytest.mark.skipif(
    not seeking_player.is_there(), reason="libavformat is not installed"
)


@pytest.fixture(scope="session")
def long_clip(clips: Path) -> Path:
    return make_long_clip(clips / "long.flv")


def seeking(upstream: Upstream, gateway: int, *words: str) -> tuple[list[str], list[str]]:
    """The packets of a player that pauses or seeks directly, and of another one over RTMPT."""
    sources = (
        url("rtmp", upstream.tap.port, "vod/long.flv"),
        url("rtmpt", gateway, "vod/long.flv"),
    )
    players = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.interop.seeking_player", source, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for source in sources
    ]
    direct, tunnelled = (
        player.communicate(timeout=2 * _ENDS_S)[0].splitlines() for player in players
    )
    return direct, tunnelled


@needs_libavformat
@pytest.mark.parametrize("upstream", ["nginx"], indirect=True)
def test_a_player_that_seeks_gets_the_same_packets_as_over_rtmp(
    upstream: Upstream, gateway: int, long_clip: Path
) -> None:
    direct, tunnelled = seeking(upstream, gateway, "seek", "40", "12")
    assert direct[40] == "seeked 0"
    assert tunnelled == direct


@needs_libavformat
@pytest.mark.parametrize("upstream", ["nginx"], indirect=True)
def test_a_player_that_pauses_misses_no_packet(
    upstream: Upstream, gateway: int, long_clip: Path
) -> None:
    """After a pause nginx-rtmp restarts the file: the packets already sent arrive first, in order."""
    packets = [f"{stream} {payload}" for stream, payload in packets_of_media(long_clip)]
    direct, tunnelled = seeking(upstream, gateway, "pause", "400", "2")
    assert tunnelled[:401] == direct[:401] == [*packets[:400], "paused 0 0"]
    begun_again = direct.index(packets[0], 401)
    under_way = tunnelled.index(packets[0], 401) - 401
    assert tunnelled[401 : 401 + under_way] == packets[400 : 400 + under_way]
    assert tunnelled[401 + under_way :] == direct[begun_again:]


# Behind proxies

_NGINX = """
events {{ worker_connections 256; }}
http {{
    access_log off;
    {temp_paths}
    upstream gateway {{ server {gateway}; keepalive 8; }}
    server {{
        listen {listen};
        location / {{
            proxy_pass http://gateway; proxy_http_version 1.1;
            proxy_set_header Connection ""; proxy_buffering {buffering};
        }}
    }}
}}
"""


@pytest.mark.parametrize("buffering", ["on", "off"])
@pytest.mark.parametrize("make_player", [FFmpegPlayer, RtmpdumpPlayer], ids=["ffmpeg", "rtmpdump"])
@pytest.mark.parametrize("upstream", ["nginx"], indirect=True)
def test_players_behind_nginx_get_whole_answers(
    buffering: str,
    make_player: MakePlayer,
    programs: Programs,
    upstream: Upstream,
    gateway: int,
    stream: str,
    clip: Path,
    packets: list[Packet],
) -> None:
    at = f"{LOOPBACK}:{gateway}"
    _, proxy = run_nginx(programs, _NGINX, gateway=at, buffering=buffering)
    with tapped(proxy) as tap:
        player = make_player(programs, url("rtmpt", tap.port, stream))
        assert play_live(programs, upstream, clip, stream, player) == packets
        assert not streams(tap)


_HAPROXY = """
global
    maxconn 200
defaults
    mode http
    timeout connect 3s
    timeout client 60s
    timeout server 60s
listen tunnel
    bind {listen}
    server gateway {gateway}
"""
_SQUID = """
http_port {listen}
acl all_ports port 1-65535
http_access allow all
cache deny all
access_log none
cache_log {folder}/cache.log
pid_filename {folder}/squid.pid
coredump_dir {folder}
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    try:
        socket.create_connection((LOOPBACK, port), 1).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("upstream", ["nginx"], indirect=True)
def test_players_behind_haproxy_get_whole_answers(
    programs: Programs,
    upstream: Upstream,
    gateway: int,
    stream: str,
    clip: Path,
    packets: list[Packet],
) -> None:
    port = _free_port()
    path = programs.new_folder("haproxy") / "haproxy.cfg"
    path.write_text(_HAPROXY.format(listen=f"{LOOPBACK}:{port}", gateway=f"{LOOPBACK}:{gateway}"))
    programs.start("haproxy", "-db", "-f", str(path))
    until(lambda: _answers(port), "haproxy listens")
    with tapped(port) as tap:
        player = FFmpegPlayer(programs, url("rtmpt", tap.port, stream))
        assert play_live(programs, upstream, clip, stream, player) == packets
        assert not streams(tap)


@pytest.mark.parametrize("upstream", ["nginx"], indirect=True)
def test_players_behind_squid_get_whole_answers(
    programs: Programs,
    upstream: Upstream,
    gateway: int,
    stream: str,
    clip: Path,
    packets: list[Packet],
) -> None:
    port = _free_port()
    folder = squid_folder(programs)
    path = folder / "squid.conf"
    path.write_text(_SQUID.format(listen=f"{LOOPBACK}:{port}", folder=folder))
    programs.start(*squid(path))
    until(lambda: _answers(port), "squid listens")
    with tapped(port) as tap:
        proxy = {"http_proxy": f"http://{LOOPBACK}:{tap.port}", "no_proxy": ""}
        player = FFmpegPlayer(programs, url("rtmpt", gateway, stream), environment=proxy)
        assert play_live(programs, upstream, clip, stream, player) == packets
        assert not streams(tap)


@pytest.mark.parametrize("upstream", ["nginx"], indirect=True)
def test_players_behind_a_proxy_get_streamed_answers_if_the_operator_enables_this(
    programs: Programs, upstream: Upstream, stream: str, clip: Path, packets: list[Packet]
) -> None:
    path = programs.new_folder("always") / "gateway.toml"
    path.write_text(
        f'[[listener]]\naddress = "{LOOPBACK}:0"\n[[upstream]]\nservers = ["{upstream.server}"]\n'
        '[tunnel]\nstreamed_answers = "always"\n'
    )
    _, gateway = start_gateway(programs, "--config", str(path))
    at = f"{LOOPBACK}:{gateway}"
    _, proxy = run_nginx(programs, _NGINX, gateway=at, buffering="on")
    with tapped(proxy) as tap:
        player = FFmpegPlayer(programs, url("rtmpt", tap.port, stream))
        assert play_live(programs, upstream, clip, stream, player) == packets
        assert requests_through(tap) < _FEW_REQUESTS
        assert streams(tap)
