"""ffmpeg publishes over RTMPT: players get the contents of the file."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from tests.helpers.interop.clients import LOST_BY_FFMPEG, FFmpegPlayer, publish, url
from tests.helpers.interop.clips import Packet
from tests.helpers.interop.programs import Programs
from tests.helpers.interop.servers import ANY_PORT, start_gateway
from tests.helpers.interop.tap import Tap
from tests.interop.conftest import Upstream

_PUBLISHED_S = 20.0
_PLAYED_S = 10.0


def test_every_packet_arrives_unchanged_and_in_order(
    programs: Programs,
    upstream: Upstream,
    gateway: int,
    stream: str,
    clip: Path,
    packets: list[Packet],
) -> None:
    player = FFmpegPlayer(programs, url("rtmp", upstream.tap.port, stream))
    upstream.tap.players(1)
    publisher = publish(programs, clip, url("rtmpt", gateway, stream), in_real_time=False)
    assert publisher.ends(_PUBLISHED_S) == 0
    assert player.program.ends(_PLAYED_S) == 0
    assert_all_but_the_last(player.packets(), packets)


def test_clients_can_publish_and_play_with_the_embedded_origin(
    programs: Programs, stream: str, clip: Path, packets: list[Packet]
) -> None:
    _, port = start_gateway(programs, *ANY_PORT)
    with closing(Tap(port)) as gateway:
        source = url("rtmpt", gateway.port, stream)
        player = FFmpegPlayer(programs, source)
        gateway.players(1)
        assert publish(programs, clip, source).ends(_PUBLISHED_S) == 0
        assert player.program.ends(_PLAYED_S) == 0
    assert_all_but_the_last(player.packets(), packets)


def assert_all_but_the_last(got: list[Packet], sent: list[Packet]) -> None:
    assert got == sent[: len(got)]
    assert len(sent) - len(got) <= LOST_BY_FFMPEG
