"""Real programs publish and play through the tunnel client, over each way to a gateway and nginx-rtmp."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.interop.clients import FFmpegPlayer, publish, url
from tests.helpers.interop.clips import Packet
from tests.helpers.interop.programs import Programs
from tests.helpers.interop.secure import Gateway, make_authority, start
from tests.helpers.interop.streams import WAYS
from tests.helpers.interop.tunnel_client import start_client
from tests.interop.conftest import Upstream

_PUBLISHED_S = 20.0
_PLAYED_S = 20.0
NAME = "localhost"


@pytest.fixture(scope="module")
def authority_path(lasting_programs: Programs) -> Path:
    return lasting_programs.new_folder("authority")


@pytest.fixture(scope="module")
def gateway_with_tls(
    lasting_programs: Programs, tapped_nginx: Upstream, authority_path: Path
) -> Gateway:
    authority = make_authority(authority_path)
    _ = authority.root_path
    return start(lasting_programs, [authority.certify("site.pem", NAME)], tapped_nginx.server)


@pytest.mark.parametrize("way", WAYS)
def test_ffmpeg_publishes_and_plays_exactly_over_each_way(
    way: str,
    programs: Programs,
    nginx: Upstream,
    gateway_with_tls: Gateway,
    authority_path: Path,
    stream: str,
    clip: Path,
    packets: list[Packet],
) -> None:
    client = start_client(
        programs,
        *("--gateway", NAME, "--way", f"{way}:{gateway_with_tls.port(way)}"),
        *("--ca", str(authority_path / "root.pem")),
    )
    local = url("rtmp", client.port, stream)
    player = FFmpegPlayer(programs, local)
    nginx.tap.players(1)
    assert publish(programs, clip, local, in_real_time=False).ends(_PUBLISHED_S) == 0
    assert player.program.ends(_PLAYED_S) == 0
    assert player.packets() == packets
    print(client.program.log)
