"""Real clients on routes by application, where the gateway makes the handshake and reads the connect."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.protocols.rtmp.amf import Value
from gateway.protocols.rtmp.chunks import ChunkReader
from gateway.protocols.rtmp.commands import read_command
from gateway.protocols.rtmp.handshake import HANDSHAKE_BYTES
from tests.helpers.interop.clients import (
    LOST_BY_FFMPEG,
    FFmpegPlayer,
    RtmpdumpPlayer,
    current_ffmpeg_player,
    publish,
    url,
)
from tests.helpers.interop.clips import Packet
from tests.helpers.interop.programs import Programs
from tests.helpers.interop.secure import Authority, Gateway, make_authority, start
from tests.helpers.interop.servers import LOOPBACK
from tests.helpers.interop.streams import WAYS
from tests.interop.conftest import Upstream

NAME = "a.example"
_PUBLISHED_S = 20.0
_PLAYED_S = 20.0
_ROUTES = """
[[upstream]]
servers = ["{loopback}:{nowhere}"]
check = "off"
[[upstream]]
servers = ["{server}"]
check = "off"
name = "live"
[[route]]
application = "live"
upstream = "live"
{rewrite}
"""
_REWRITE = """
[route.rewrite]
tc_url = "rtmp://media.internal.example.org:1935/{app}"
page_url = "from {host}"
"""

# imageio's FFmpeg verifies certificates over RTMPS and RTMPTS, and librtmp has no RTMPS.
_PLAYERS = {
    "rtmp": (FFmpegPlayer, current_ffmpeg_player, RtmpdumpPlayer),
    "rtmps": (FFmpegPlayer,),
    "rtmpt": (FFmpegPlayer, current_ffmpeg_player, RtmpdumpPlayer),
    "rtmpts": (FFmpegPlayer, RtmpdumpPlayer),
}


@pytest.fixture(params=["as sent", "rewritten"])
def rewrite(request: pytest.FixtureRequest) -> str:
    return _REWRITE if request.param == "rewritten" else ""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path)


@pytest.fixture
def routing(
    programs: Programs, authority: Authority, nginx: Upstream, refusing_port: int, rewrite: str
) -> Gateway:
    """A gateway that routes the application ``live`` to nginx, and others to a dead server."""
    routes = _ROUTES.format(
        loopback=LOOPBACK, nowhere=refusing_port, server=nginx.server, rewrite=rewrite
    )
    return start(programs, [authority.certify("site.pem", NAME)], "", routes)


@pytest.mark.parametrize("way", WAYS)
def test_clients_publish_and_play_the_same_packets_over_each_protocol(
    way: str,
    programs: Programs,
    nginx: Upstream,
    routing: Gateway,
    rewrite: str,
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
        url_at_nginx = "rtmp://media.internal.example.org:1935/live" if rewrite else source
        assert asked["app"] == "live"
        assert url_at_nginx.startswith(str(asked["tcUrl"]))
        assert asked.get("pageUrl") == ("from 127.0.0.1" if rewrite else None)


def connect_of(up: bytes) -> dict[str, Value]:
    """The object of the connect in a client's stream."""
    (connect, *_) = filter(None, map(read_command, ChunkReader().feed(up[HANDSHAKE_BYTES:20_000])))
    assert isinstance(connect.object, dict)
    return connect.object
