"""ffmpeg and rtmpdump play over RTMPT: they get the same as a directly connected client."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.interop.clients import (
    LOST_BY_FFMPEG,
    FFmpegPlayer,
    Player,
    RtmpdumpPlayer,
    publish,
    url,
)
from tests.helpers.interop.clips import Packet
from tests.helpers.interop.programs import Programs
from tests.interop.conftest import Upstream

MakePlayer = Callable[[Programs, str], Player]

_PUBLISHED_S = 20.0
_PLAYED_S = 20.0

each_player = pytest.mark.parametrize("make_player", [FFmpegPlayer, RtmpdumpPlayer])


def played(player: Player) -> tuple[int, list[Packet]]:
    """The exit status and the packets of a player that ends by itself."""
    return player.program.ends(_PLAYED_S), player.packets()


@each_player
def test_a_live_stream_over_rtmpt_has_the_same_packets_as_over_rtmp(
    make_player: MakePlayer,
    programs: Programs,
    upstream: Upstream,
    gateway: int,
    stream: str,
    clip: Path,
    packets: list[Packet],
) -> None:
    direct = make_player(programs, url("rtmp", upstream.tap.port, stream))
    tunnelled = make_player(programs, url("rtmpt", gateway, stream))
    upstream.tap.players(2)
    publish(programs, clip, url("rtmp", upstream.tap.port, stream)).ends(_PUBLISHED_S)
    assert played(tunnelled) == played(direct) == (0, packets)


@each_player
@pytest.mark.parametrize("upstream", ["nginx"], indirect=True)
def test_a_file_over_rtmpt_has_the_same_packets_as_over_rtmp(
    make_player: MakePlayer,
    programs: Programs,
    upstream: Upstream,
    gateway: int,
    packets: list[Packet],
) -> None:
    direct = make_player(programs, url("rtmp", upstream.tap.port, "vod/clip.flv"))
    tunnelled = make_player(programs, url("rtmpt", gateway, "vod/clip.flv"))
    # rtmpdump says 2, directly too: it has got 99.8 % of the file, without the file's own head.
    assert played(tunnelled) == played(direct)
    assert tunnelled.packets() == packets


def test_a_live_stream_is_played_and_published_through_the_same_gateway(
    programs: Programs,
    upstream: Upstream,
    gateway: int,
    stream: str,
    clip: Path,
    packets: list[Packet],
) -> None:
    source = url("rtmpt", gateway, stream)
    players = [FFmpegPlayer(programs, source), RtmpdumpPlayer(programs, source)]
    upstream.tap.players(2)
    publish(programs, clip, source).ends(_PUBLISHED_S)
    for player in players:
        status, got = played(player)
        assert status == 0
        assert got == packets[: len(got)]
        assert len(packets) - len(got) <= LOST_BY_FFMPEG
