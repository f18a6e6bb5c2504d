"""RTMPE and RTMPTE that end at the gateway: real players and publishers, and servers of plain RTMP."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from fcntl import F_SETPIPE_SZ, fcntl
from os import close, fdopen, pipe, write
from pathlib import Path
from random import Random
from time import monotonic

import pytest

from tests.helpers.interop.clients import (
    FFmpegPlayer,
    Player,
    RtmpdumpPlayer,
    current_ffmpeg_player,
    publish,
    url,
)
from tests.helpers.interop.clips import Packet
from tests.helpers.interop.programs import Program, Programs, needs, until
from tests.helpers.interop.relay import Link, Relay
from tests.helpers.interop.servers import LOOPBACK, start_configured_gateway
from tests.helpers.rtmpe_client import RTMPEClient
from tests.interop.conftest import Upstream

_PUBLISHED_S = _PLAYED_S = 20.0
_PIPE_BYTES = 1024 * 1024
_CONFIGURATION = """
[[upstream]]
servers = ["{server}"]
rtmpe = "terminate"
[limits]
unused_session_s = {unused_s}
"""
ONE_UPSTREAM = pytest.mark.parametrize("upstream", ["nginx"], indirect=True)
ENCRYPTED = pytest.mark.parametrize("way", ["rtmpe", "rtmpte"])


def start(programs: Programs, server: str, unused_s: float = 10.0) -> tuple[Program, int]:
    """A gateway in front of ``server``, and its port."""
    text = _CONFIGURATION.format(server=server, unused_s=unused_s)
    return start_configured_gateway(programs, text)


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    """The ports of the gateways that ``port`` has started, by their servers."""
    return {}


@pytest.fixture
def port(lasting_programs: Programs, ports: dict[str, int], upstream: Upstream) -> int:
    """The port of a gateway in front of ``upstream``, which serves all tests."""
    if upstream.server not in ports:
        ports[upstream.server] = start(lasting_programs, upstream.server)[1]
    return ports[upstream.server]


@contextmanager
def published_by_librtmp(programs: Programs, clip: Path, to: str) -> Iterator[None]:
    """``clip`` is published with GStreamer, whose rtmpsink uses librtmp and ends with this context.

    Librtmp loses data that has not been read when it ends, and cannot read a tag whose head is in two
    buffers: it gets the whole clip in one, and no end. FFmpeg cannot publish over RTMPE to a server that
    sets the chunk size, because it takes the size from a buffer that it has encrypted in its place.
    """
    needs("gst-launch-1.0")
    source, sink = pipe()
    fcntl(sink, F_SETPIPE_SZ, _PIPE_BYTES)
    assert write(sink, clip.read_bytes()) == clip.stat().st_size
    program = programs.start(
        *("gst-launch-1.0", "-q", "fdsrc", f"fd={source}", f"blocksize={_PIPE_BYTES}"),
        *("!", "rtmpsink", f"location={to} live=1"),
        pass_fds=[source],
    )
    close(source)
    with fdopen(sink, "wb", buffering=0):
        yield
    assert program.ends(_PUBLISHED_S) == 0


@ENCRYPTED
@pytest.mark.parametrize("player_of", [RtmpdumpPlayer, current_ffmpeg_player])
def test_players_get_every_packet(
    way: str,
    player_of: Callable[[Programs, str], Player],
    programs: Programs,
    upstream: Upstream,
    port: int,
    stream: str,
    clip: Path,
    packets: list[Packet],
) -> None:
    player = player_of(programs, url(way, port, stream))
    upstream.tap.players(1)
    publish(programs, clip, url("rtmp", upstream.tap.port, stream)).ends(_PUBLISHED_S)
    assert player.program.ends(_PLAYED_S) == 0
    assert player.packets() == packets


@ENCRYPTED
def test_a_publishers_packets_all_arrive(
    way: str,
    programs: Programs,
    upstream: Upstream,
    port: int,
    stream: str,
    clip: Path,
    packets: list[Packet],
) -> None:
    player = FFmpegPlayer(programs, url("rtmp", upstream.tap.port, stream))
    upstream.tap.players(1)
    with published_by_librtmp(programs, clip, url(way, port, stream)):
        until(lambda: _is_quiet(upstream), "the server has got everything")
    assert player.program.ends(_PLAYED_S) == 0
    assert player.packets() == packets


def _is_quiet(upstream: Upstream) -> bool:
    """Whether a publisher has sent data, and none in the last second."""
    times = [time for link in upstream.tap.links[1:] for time in link.up_times]
    return len(times) > 5 and monotonic() - times[-1] > 1.0


@pytest.mark.parametrize("way", ["rtmp", "rtmpt"])
@ONE_UPSTREAM
def test_players_of_plain_rtmp_are_served_too(
    way: str,
    programs: Programs,
    upstream: Upstream,
    port: int,
    stream: str,
    clip: Path,
    packets: list[Packet],
) -> None:
    player = RtmpdumpPlayer(programs, url(way, port, stream))
    upstream.tap.players(1)
    publish(programs, clip, url("rtmp", upstream.tap.port, stream)).ends(_PUBLISHED_S)
    assert player.program.ends(_PLAYED_S) == 0
    assert player.packets() == packets


_ROUTES = """
[[upstream]]
name = "dead"
servers = ["{loopback}:{dead}"]
rtmpe = "terminate"
[[upstream]]
name = "live"
servers = ["{server}"]
rtmpe = "terminate"
[[route]]
application = "live"
{condition}
upstream = "live"
[route.rewrite]
tc_url = "rtmp://media.internal.example.org/{{app}}"
[[route]]
upstream = "dead"
"""


@pytest.mark.parametrize("condition", ["", 'stream = "stream*"'])
def test_a_route_reads_the_commands_of_a_client_whose_rtmpe_is_decrypted(
    programs: Programs,
    nginx: Upstream,
    stream: str,
    clip: Path,
    packets: list[Packet],
    refusing_port: int,
    condition: str,
) -> None:
    text = _ROUTES.format(
        loopback=LOOPBACK, dead=refusing_port, server=nginx.server, condition=condition
    )
    _, port = start_configured_gateway(programs, text)
    players = [
        RtmpdumpPlayer(programs, url("rtmpe", port, stream)),
        current_ffmpeg_player(programs, url("rtmpte", port, stream)),
        RtmpdumpPlayer(programs, url("rtmp", port, stream)),
    ]
    nginx.tap.players(len(players))
    for link in nginx.tap.links:
        assert b"rtmp://media.internal.example.org/live" in link.up
    publish(programs, clip, url("rtmp", nginx.tap.port, stream)).ends(_PUBLISHED_S)
    for player in players:
        assert player.program.ends(_PLAYED_S) == 0
        assert player.packets() == packets
    # The client must decrypt the error.
    refused = RtmpdumpPlayer(programs, url("rtmpe", port, "elsewhere/stream"))
    refused.program.says("rtmp server sent error")


class AsVersion8(Link):
    """Changes the version in C0 from 6 to 8, which no digest covers. Players then check S2 as version 8."""

    _is_changed = False

    def from_client(self, data: bytes) -> None:
        if not self._is_changed:
            assert data[0] == 6
            data = b"\x08" + data[1:]
            self._is_changed = True
        self.server.sendall(data)

    def from_server(self, data: bytes) -> None:
        self.client.sendall(data)


@pytest.mark.parametrize("player_of", [RtmpdumpPlayer, current_ffmpeg_player])
@ONE_UPSTREAM
def test_players_accept_the_answer_to_version_8(
    player_of: Callable[[Programs, str], Player],
    programs: Programs,
    upstream: Upstream,
    port: int,
    stream: str,
    clip: Path,
    packets: list[Packet],
) -> None:
    with closing(Relay(port, AsVersion8)) as relay:
        player = player_of(programs, url("rtmpe", relay.port, stream))
        upstream.tap.players(1)
        publish(programs, clip, url("rtmp", upstream.tap.port, stream)).ends(_PUBLISHED_S)
        assert player.program.ends(_PLAYED_S) == 0
    assert player.packets() == packets


def damaged(random: Random) -> bytes:
    """A handshake that a client would not send, or not to its end."""
    hello = bytearray(RTMPEClient(random.randrange(2), random.choice([6, 8])).hello)
    for _ in range(random.randrange(4)):
        hello[random.randrange(1, len(hello))] = random.randrange(256)
    end = random.choice([random.randrange(1, len(hello)), len(hello), len(hello)])
    return bytes(hello[:end]) + random.choice([b"", b"", random.randbytes(random.randrange(5000))])


def test_damaged_handshakes_end_at_their_deadline_at_the_latest(
    programs: Programs, nginx: Upstream
) -> None:
    program, port = start(programs, nginx.server, unused_s=1.0)
    random = Random(1)
    with ExitStack() as stack:
        clients = []
        for _ in range(60):
            client = stack.enter_context(socket.create_connection((LOOPBACK, port)))
            client.sendall(damaged(random))
            client.settimeout(10)
            clients.append(client)
        began = monotonic()
        for client in clients:
            while _answer(client):
                pass
        # The deadline, the interval of the sweeps, and the time in which a closed connection is read.
        assert monotonic() - began < 5.0
    program.says("RTMPE handshake malformed or not completed")


def _answer(client: socket.socket) -> bytes:
    try:
        return client.recv(65536)
    except ConnectionResetError:
        return b""
