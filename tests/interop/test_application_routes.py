"""Real clients on routes by application, where the gateway makes the handshake and reads the connect, and
on the same ones by stream, where it answers them up to their publish or play.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.protocols.rtmp.amf import Value
from gateway.protocols.rtmp.chunks import ChunkReader
from gateway.protocols.rtmp.commands import read_command
from gateway.protocols.rtmp.digest import PLAYER, SERVER, find_digest
from gateway.protocols.rtmp.handshake import BLOCK_BYTES, HANDSHAKE_BYTES
from gateway.protocols.rtmp.messages import Message, MessageType, set_chunk_size
from tests.helpers.interop.clients import (
    LOST_BY_FFMPEG,
    FFmpegPlayer,
    GStreamer2Player,
    GStreamerPlayer,
    RtmpdumpPlayer,
    current_ffmpeg_player,
    publish,
    publish_by_gstreamer,
    url,
)
from tests.helpers.interop.clips import (
    Packet,
    lacks_at_most_the_last,
    of_stream,
    packets_of_media,
)
from tests.helpers.interop.programs import Programs, until
from tests.helpers.interop.rtmpe import encrypted
from tests.helpers.interop.secure import PLAIN, Authority, Gateway, make_authority, start
from tests.helpers.interop.servers import LOOPBACK
from tests.helpers.interop.streams import WAYS, Talk, connected
from tests.helpers.interop.tunnel_client import start_client
from tests.helpers.rtmp_client import KEYFRAME, VIDEO_HEADER, video
from tests.interop.conftest import Upstream

NAME = "localhost"
_PUBLISHED_S = 20.0
_PLAYED_S = 20.0
# rtmpsrc writes in pieces, and does not end with the stream.
_KEPT_BACK_PACKETS = 30
_ROUTES = """
[[upstream]]
servers = ["{loopback}:{nowhere}"]
check = "off"
[[upstream]]
servers = ["{server}"]
check = "off"
name = "live"
[[route]]
application = "dead"
upstream = "1"
[[route]]
application = "renamed"
upstream = "live"
[route.rewrite]
app = "live"
tc_url = "rtmp://media.internal.example.org:1935/live"
[[route]]
application = "li?e"
upstream = "live"
{more}
"""
_URL_AT_NGINX = "rtmp://media.internal.example.org:1935/live"
_REWRITE = """
[route.rewrite]
tc_url = "rtmp://media.internal.example.org:1935/{app}"
page_url = "from {host}"
"""
_MORE = {"as sent": "", "by stream": 'stream = "*"' + _REWRITE}

# imageio's FFmpeg verifies certificates over RTMPS and RTMPTS, and librtmp has no RTMPS.
_PLAYERS = {
    "rtmp": (FFmpegPlayer, current_ffmpeg_player, RtmpdumpPlayer),
    "rtmps": (FFmpegPlayer,),
    "rtmpt": (FFmpegPlayer, current_ffmpeg_player, RtmpdumpPlayer),
    "rtmpts": (FFmpegPlayer, RtmpdumpPlayer),
}


@pytest.fixture(params=["as sent", "by stream"], scope="module")
def more(request: pytest.FixtureRequest) -> str:
    """Further keys of the route."""
    return _MORE[request.param]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def routing(
    lasting_programs: Programs, authority: Authority, tapped_nginx: Upstream, more: str
) -> Iterator[Gateway]:
    """A gateway that routes the application ``live`` to nginx, and ``dead`` to a dead server."""
    with socket.socket() as refusing:
        refusing.bind((LOOPBACK, 0))
        routes = _ROUTES.format(
            loopback=LOOPBACK,
            nowhere=refusing.getsockname()[1],
            server=tapped_nginx.server,
            more=more,
        )
        gateway = start(lasting_programs, [authority.certify("site.pem", NAME)], "", routes)
        yield gateway
        gateway.program.stop()


@pytest.mark.parametrize("way", WAYS)
def test_clients_publish_and_play_the_same_packets_over_each_protocol(
    way: str,
    programs: Programs,
    nginx: Upstream,
    routing: Gateway,
    more: str,
    stream: str,
    clip: Path,
    packets: list[Packet],
) -> None:
    source = url(way, routing.port(way), stream)
    players = [make_player(programs, source) for make_player in _PLAYERS[way]]
    nginx.tap.players(len(players))
    assert publish(programs, clip, source).ends(_PUBLISHED_S) == 0
    for player in players:
        assert player.program.ends(_PLAYED_S) == 0
        got = player.packets()
        assert got == packets[: len(got)]
        assert len(packets) - len(got) <= (LOST_BY_FFMPEG if way.startswith("rtmpt") else 0)
    assert len(nginx.tap.links) == len(players) + 1
    for link in nginx.tap.links:
        asked = connect_of(bytes(link.up))
        url_at_nginx = _URL_AT_NGINX if more else source
        assert asked["app"] == "live"
        assert url_at_nginx.startswith(str(asked["tcUrl"]))
        assert asked.get("pageUrl") == ("from 127.0.0.1" if more else None)


@pytest.mark.parametrize("way", ["rtmp", "rtmpts"])
def test_clients_of_a_renamed_application_publish_and_play_the_same_packets(
    way: str,
    programs: Programs,
    nginx: Upstream,
    routing: Gateway,
    stream: str,
    clip: Path,
    packets: list[Packet],
) -> None:
    source = url(way, routing.port(way), stream.replace("live", "renamed"))
    player = FFmpegPlayer(programs, source)
    nginx.tap.players(1)
    assert publish(programs, clip, source).ends(_PUBLISHED_S) == 0
    assert player.program.ends(_PLAYED_S) == 0
    got = player.packets()
    assert got == packets[: len(got)]
    assert len(packets) - len(got) <= (LOST_BY_FFMPEG if way == "rtmpts" else 0)
    for link in nginx.tap.links:
        asked = connect_of(bytes(link.up))
        assert (asked["app"], asked["tcUrl"]) == ("live", _URL_AT_NGINX)


@pytest.mark.parametrize("way", ["rtmp", "rtmpt"])
def test_gstreamer_publishes_and_plays_the_same_packets(
    way: str,
    programs: Programs,
    nginx: Upstream,
    routing: Gateway,
    stream: str,
    clip: Path,
    packets: list[Packet],
) -> None:
    player = FFmpegPlayer(programs, url("rtmp", nginx.tap.port, stream))
    gstreamer = GStreamerPlayer(programs, url(way, routing.port(way), stream))
    nginx.tap.players(2)
    # Over RTMPT, rtmpsink does not read the answers (README.md, Limits): at its end, its system resets the
    # connection, and the last packets can be lost.
    publisher = programs.start(
        *("gst-launch-1.0", "-q", "filesrc", f"location={clip}", "blocksize=65536"),
        *("!", "rtmpsink", f"location={url('rtmp', routing.port('rtmp'), stream)}"),
    )
    assert publisher.ends(_PUBLISHED_S) == 0
    assert player.program.ends(_PLAYED_S) == 0
    assert player.packets() == packets
    until(lambda: len(gstreamer.packets()) > len(packets) - _KEPT_BACK_PACKETS, "it has played")
    got = gstreamer.packets()
    gstreamer.program.stop()
    assert got == packets[: len(got)]


@pytest.mark.parametrize("way", WAYS)
def test_gstreamer_publishes_and_plays_the_same_packets_over_each_protocol_of_the_tunnel_client(
    way: str,
    programs: Programs,
    nginx: Upstream,
    authority: Authority,
    routing: Gateway,
    stream: str,
    clip: Path,
    packets: list[Packet],
) -> None:
    """rtmp2sink and rtmp2src have RTMP only."""
    client = start_client(
        programs,
        *("--gateway", NAME, "--ca", authority.root_path, "--way", f"{way}:{routing.port(way)}"),
    )
    source = url("rtmp", client.port, stream)
    player, gstreamer = FFmpegPlayer(programs, source), GStreamer2Player(programs, source)
    nginx.tap.players(2)
    assert publish_by_gstreamer(programs, clip, source).ends(_PUBLISHED_S) == 0
    for each in (player, gstreamer):
        assert each.program.ends(_PLAYED_S) == 0
    # GStreamer mixes the two streams otherwise than FFmpeg.
    assert all(of_stream(player.packets(), each) == of_stream(packets, each) for each in (0, 1))
    assert lacks_at_most_the_last(gstreamer.packets(), packets)
    assert all(connect_of(bytes(link.up))["app"] == "live" for link in nginx.tap.links)


@pytest.mark.parametrize("way", ["rtmp", "rtmpt"])
def test_rtmpdump_with_a_digest_verifies_the_gateways_and_plays_the_same_packets(
    way: str,
    programs: Programs,
    nginx: Upstream,
    routing: Gateway,
    stream: str,
    clip: Path,
    packets: list[Packet],
) -> None:
    output = programs.new_folder("played") / "file.flv"
    player = programs.start(
        *("rtmpdump", "--live", "-r", url(way, routing.port(way), stream), "-o", str(output)),
        *("--swfhash", "ab" * 32, "--swfsize", "1000"),
    )
    nginx.tap.players(1)
    (link,) = nginx.tap.links
    assert find_digest(bytes(link.up[1 : 1 + BLOCK_BYTES]), PLAYER) is not None
    assert find_digest(bytes(link.down[1 : 1 + BLOCK_BYTES]), SERVER) is not None
    publish(programs, clip, url("rtmp", nginx.tap.port, stream)).ends(_PUBLISHED_S)
    assert player.ends(_PLAYED_S) == 0
    assert packets_of_media(output) == packets
    assert "not genuine" not in player.log


@pytest.mark.parametrize("way", ["rtmp", "rtmps", "rtmpt", "rtmpts"])
def test_large_chunks_and_extended_timestamps_pass_unchanged(
    way: str, authority: Authority, nginx: Upstream, routing: Gateway, stream: str
) -> None:
    context, port = authority.client_context(), routing.port(way)
    frames = [video(KEYFRAME + bytes(each * 30_000), 0xFFFFFE + each) for each in range(6)]
    with (
        connected(way, port, context, NAME) as to_publish,
        connected(way, port, context, NAME) as to_play,
    ):
        publisher, player = Talk(to_publish), Talk(to_play)
        publisher.send_first(set_chunk_size(1_000_000))
        publisher.start("publish", stream)
        player.start("play", stream)
        publisher.send(video(VIDEO_HEADER, 0xFFFFFE))
        for frame in frames:
            publisher.send(frame)
        got: list[Message] = []
        while len(got) < len(frames) + 1:
            got += [each for each in player.media() if each.type == MessageType.VIDEO]
    assert [(each.payload, each.timestamp) for each in got[1:]] == [
        (each.payload, each.timestamp) for each in frames
    ]


@pytest.mark.parametrize("way", WAYS)
def test_ffmpeg_says_that_there_is_no_server(
    way: str, programs: Programs, routing: Gateway
) -> None:
    player = FFmpegPlayer(programs, url(way, routing.port(way), "dead/stream"))
    assert player.program.ends(_PLAYED_S) != 0
    assert "No media server is available." in player.program.log


@pytest.mark.parametrize("way", ["rtmpe", "rtmpte"])
def test_rtmpe_gets_the_server_of_clients_whose_application_cannot_be_read(
    way: str,
    programs: Programs,
    authority: Authority,
    origin: Upstream,
    stream: str,
    clip: Path,
    packets: list[Packet],
) -> None:
    with encrypted(origin.tap.port) as port, socket.socket() as refusing:
        refusing.bind((LOOPBACK, 0))
        routes = _ROUTES.format(
            loopback=LOOPBACK,
            nowhere=port,
            server=f"{LOOPBACK}:{refusing.getsockname()[1]}",
            more=_REWRITE,
        )
        gateway = start(programs, [authority.certify("site.pem", NAME)], "", routes)
        player = RtmpdumpPlayer(programs, url(way, gateway.ports[PLAIN], stream))
        origin.tap.players(1)
        publish(programs, clip, url("rtmp", origin.tap.port, stream)).ends(_PUBLISHED_S)
        assert player.program.ends(_PLAYED_S) == 0
    assert player.packets() == packets


def connect_of(up: bytes) -> dict[str, Value]:
    """The object of the connect in a client's stream."""
    (connect, *_) = filter(None, map(read_command, ChunkReader().feed(up[HANDSHAKE_BYTES:20_000])))
    assert isinstance(connect.object, dict)
    return connect.object
