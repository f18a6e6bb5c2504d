"""The gateway behind nginx, which distributes a client's requests over its own connections."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from tests.helpers.interop.clients import LOST_BY_FFMPEG, FFmpegPlayer, RtmpdumpPlayer, publish, url
from tests.helpers.interop.clips import Packet, make_silent_clip, packets_of_media
from tests.helpers.interop.programs import Programs
from tests.helpers.interop.servers import LOOPBACK, run_nginx
from tests.helpers.interop.tap import Tap
from tests.interop.conftest import Upstream

_PUBLISHED_S = 30.0
_PLAYED_S = 20.0
_CONFIGURATION = """
events {{ worker_connections 256; }}
http {{
    access_log off;
    {temp_paths}
    upstream gateway {{ server {gateway}; {keepalive} }}
    server {{
        listen {listen};
        location / {{ proxy_pass http://gateway; {directives} }}
    }}
}}
"""
# How nginx does it unless told otherwise (HTTP/1.0, each request on a connection of its own), and as its
# manual has it for speed.
_MANNERS = {
    "a connection for each request": ("", ""),
    "a pool": ("keepalive 8;", 'proxy_http_version 1.1; proxy_set_header Connection "";'),
    # Soon exchanged, as a pool's connections are in the end.
    "a pool of short lives": (
        "keepalive 8; keepalive_requests 3;",
        'proxy_http_version 1.1; proxy_set_header Connection "";',
    ),
}


@pytest.fixture(params=_MANNERS)
def proxy(request: pytest.FixtureRequest, programs: Programs, gateway: int) -> int:
    """The port of an nginx in front of the gateway."""
    keepalive, directives = _MANNERS[request.param]
    _, port = run_nginx(
        programs,
        _CONFIGURATION,
        gateway=f"{LOOPBACK}:{gateway}",
        keepalive=keepalive,
        directives=directives,
    )
    return port


def test_media_of_ffmpeg_arrives_unchanged(
    programs: Programs,
    upstream: Upstream,
    proxy: int,
    stream: str,
    clip: Path,
    packets: list[Packet],
) -> None:
    source = url("rtmpt", proxy, stream)
    players = FFmpegPlayer(programs, source), RtmpdumpPlayer(programs, source)
    upstream.tap.players(2)
    assert publish(programs, clip, source).ends(_PUBLISHED_S) == 0
    for player in players:
        assert player.program.ends(_PLAYED_S) == 0
        got = player.packets()
        assert got == packets[: len(got)]
        assert len(packets) - len(got) <= LOST_BY_FFMPEG


@pytest.mark.parametrize("upstream", ["origin"], indirect=True)
def test_consecutive_sends_with_equal_bodies_are_all_sent_upstream(
    programs: Programs, upstream: Upstream, proxy: int, stream: str, tmp_path: Path
) -> None:
    clip = make_silent_clip(tmp_path / "silence.flv")
    player = FFmpegPlayer(programs, url("rtmp", upstream.tap.port, stream))
    upstream.tap.players(1)
    with closing(Tap(proxy)) as tap:
        source = url("rtmpt", tap.port, stream)
        assert publish(programs, clip, source, in_real_time=False).ends(_PUBLISHED_S) == 0
        assert _most_alike(bytes(tap.links[0].up)) > 10
    assert player.program.ends(_PLAYED_S) == 0
    sent, got = packets_of_media(clip), player.packets()
    assert got == sent[: len(got)]
    assert len(sent) - len(got) <= LOST_BY_FFMPEG


def _most_alike(requests: bytes) -> int:
    """The number of sends with the most frequent body."""
    sends = [each for each in requests.split(b"POST /") if each.startswith(b"send/")]
    return max(Counter(send.partition(b"\r\n\r\n")[2] for send in sends).values())
