"""The end of one side ends the other, and no client busy-loops."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.interop.clients import publish, url
from tests.helpers.interop.programs import Programs, until
from tests.helpers.interop.servers import ANY_PORT, LOOPBACK, start_gateway
from tests.interop.conftest import Upstream
from tests.interop.test_play import MakePlayer, each_player

# Both programs stop at the first 404; a client that spins does so for ever.
_PROMPTLY_S = 5.0


@each_player
def test_a_player_ends_when_its_upstream_ends(
    make_player: MakePlayer,
    programs: Programs,
    upstream: Upstream,
    stream: str,
    clip: Path,
) -> None:
    gateway, port = start_gateway(programs, *ANY_PORT, "--upstream", upstream.server)
    player = make_player(programs, url("rtmpt", port, stream))
    upstream.tap.players(1)
    publish(programs, clip, url("rtmp", upstream.tap.port, stream))
    link = upstream.tap.links[0]
    until(lambda: len(link.down) > 50_000, "the player gets packets")
    link.close()
    player.program.ends(_PROMPTLY_S)
    gateway.says("ended: closed by the media server")


def test_a_publisher_ends_when_its_upstream_ends(
    programs: Programs, upstream: Upstream, gateway: int, stream: str, clip: Path
) -> None:
    publisher = publish(programs, clip, url("rtmpt", gateway, stream))
    upstream.tap.publishers(1)
    upstream.tap.links[0].close()
    assert publisher.ends(_PROMPTLY_S) != 0


@each_player
def test_a_client_ends_when_its_upstream_refuses(
    make_player: MakePlayer, programs: Programs, refusing_port: int
) -> None:
    _, port = start_gateway(programs, *ANY_PORT, "--upstream", f"{LOOPBACK}:{refusing_port}")
    player = make_player(programs, url("rtmpt", port, "live/nothing"))
    assert player.program.ends(_PROMPTLY_S) != 0
