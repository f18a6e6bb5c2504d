"""A publish and a play through a tunnel client arrive whole, whatever happens to its connections.

    python -m tests.interop.test_tunnel_survival SECONDS     with cuts every two seconds, for so long

Program → client → something that disturbs → gateway → nginx-rtmp, and back.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

import pytest
from attrs import frozen

from tests.helpers.interop.between import start_between, start_tinyproxy
from tests.helpers.interop.clients import FFmpegPlayer, publish, url
from tests.helpers.interop.clips import Packet, make_clip_of, packets_of_media
from tests.helpers.interop.moving import AVAILABLE, MovingHost, moving_host
from tests.helpers.interop.programs import Program, Programs, until
from tests.helpers.interop.relay import How
from tests.helpers.interop.scissors import Scissors
from tests.helpers.interop.servers import LOOPBACK, start_gateway, start_nginx
from tests.helpers.interop.tap import Tap
from tests.helpers.interop.tunnel_client import TunnelClient, start_client
from tests.helpers.interop.watched import WatchedGateway, start_watched_gateway
from tests.interop.conftest import Upstream

_CUT_EVERY_S = 2.0
_CLIP_S = 8
_ENDS_S = 30.0
# Before the kernel notices that the peer acknowledges nothing, after 15 s.
_NOTICED_S = 12.0
# A reverse proxy that ends each connection with an answer.
_REVERSE = 'ReversePath "/" "http://{loopback}:{port}/"\nReverseOnly Yes'


@frozen
class Carried:
    """A stream that is published and played through a client at the same time."""

    publisher: Program
    player: FFmpegPlayer

    def arrives(self, packets: list[Packet], deadline_s: float = _ENDS_S) -> None:
        assert self.publisher.ends(deadline_s) == 0
        assert self.player.program.ends(deadline_s) == 0
        assert self.player.packets() == packets


def start_tunnel(
    programs: Programs, port: int, host: str = LOOPBACK, inside: tuple[str, ...] = ()
) -> TunnelClient:
    """A client that reaches its gateway by RTMPT alone."""
    return start_client(programs, "--gateway", host, "--way", f"rtmpt:{port}", inside=inside)


def carry(
    programs: Programs,
    tap: Tap,
    port: int,
    stream: str,
    clip: Path,
    inside: tuple[str, ...] = (),
) -> Carried:
    """Start a player and a publisher."""
    source = url("rtmp", port, stream)
    player = FFmpegPlayer(programs, source, inside=inside)
    tap.players(1)
    publisher = publish(programs, clip, source, inside=inside)
    tap.publishers(1)
    return Carried(publisher, player)


@pytest.fixture(scope="session")
def eight_seconds(clips: Path) -> Path:
    return make_clip_of(clips / "eight.flv", _CLIP_S)


@pytest.fixture(scope="session")
def all_packets(eight_seconds: Path) -> list[Packet]:
    return packets_of_media(eight_seconds)


@pytest.fixture(scope="module")
def gateway(lasting_programs: Programs, tapped_nginx: Upstream) -> WatchedGateway:
    """The far gateway of all tests."""
    more = f'[[upstream]]\nservers = ["{tapped_nginx.server}"]\n'
    return start_watched_gateway(lasting_programs, more)


# --- Cuts ---


def test_media_arrives_while_the_connection_is_cut_every_two_seconds(
    programs: Programs,
    nginx: Upstream,
    gateway: WatchedGateway,
    stream: str,
    eight_seconds: Path,
    all_packets: list[Packet],
) -> None:
    with closing(Scissors(gateway.port, How.RESET, _CUT_EVERY_S)) as scissors:
        client = start_tunnel(programs, scissors.port)
        carry(programs, nginx.tap, client.port, stream, eight_seconds).arrives(all_packets)
        # Of a publisher and a player.
        assert scissors.cuts >= 6


def test_media_arrives_through_something_that_cuts_connections_after_a_second(
    programs: Programs,
    nginx: Upstream,
    gateway: WatchedGateway,
    stream: str,
    clip: Path,
    packets: list[Packet],
) -> None:
    with closing(Scissors(gateway.port, How.FIN, 1.0, aged=True)) as scissors:
        client = start_tunnel(programs, scissors.port)
        carry(programs, nginx.tap, client.port, stream, clip).arrives(packets)
        assert scissors.cuts >= 4


# --- Another address ---


@pytest.fixture
def host() -> Iterator[MovingHost]:
    if not AVAILABLE:
        pytest.skip("needs root and iproute2")
    with moving_host() as host:
        yield host


def test_media_arrives_while_the_clients_address_changes(
    programs: Programs,
    nginx: Upstream,
    host: MovingHost,
    stream: str,
    clip: Path,
    packets: list[Packet],
) -> None:
    gateway, far = start_gateway(
        programs, "--listen", f"{host.here}:0", "--upstream", nginx.server, address=host.here
    )
    client = start_tunnel(programs, far, host.here, host.inside)
    carried = carry(programs, nginx.tap, client.port, stream, clip, host.inside)
    until(lambda: len(carried.player.packets()) > 25, "media arrives")
    host.move()
    arrived = len(carried.player.packets())
    # More than what had reached the player's machine before.
    until(lambda: len(carried.player.packets()) > arrived + 50, "it goes on", _NOTICED_S)
    carried.arrives(packets)
    # The sessions are the same.
    assert "session 0001-3" not in gateway.log


# --- Proxies ---


def streaming_of(gateway: WatchedGateway, stream: str) -> set[str]:
    """Whether answers to the sessions of a stream are streamed."""
    name = stream.partition("/")[2]
    return {each["streaming"] for each in gateway.sessions() if each["stream"] == name}


def test_a_path_that_buffers_answers_is_noticed(
    programs: Programs,
    nginx: Upstream,
    gateway: WatchedGateway,
    stream: str,
    eight_seconds: Path,
    all_packets: list[Packet],
) -> None:
    client = start_tunnel(programs, start_between(programs, (), "buffer", "0", str(gateway.port)))
    carried = carry(programs, nginx.tap, client.port, stream, eight_seconds)
    until(lambda: "buffered" in streaming_of(gateway, stream), "the client notices", 8.0)
    carried.arrives(all_packets)


def test_media_arrives_through_a_proxy_that_closes_each_connection_after_an_answer(
    programs: Programs,
    nginx: Upstream,
    gateway: WatchedGateway,
    stream: str,
    clip: Path,
    packets: list[Packet],
    free_port: int,
) -> None:
    access = _REVERSE.format(loopback=LOOPBACK, port=gateway.port)
    start_tinyproxy(programs, (), free_port, access)
    client = start_tunnel(programs, free_port)
    carried = carry(programs, nginx.tap, client.port, stream, clip)
    until(lambda: "streamed" in streaming_of(gateway, stream), "answers are streamed")
    carried.arrives(packets)


# --- Longer, as a program ---


def main(seconds: int) -> None:
    with TemporaryDirectory() as folder, ExitStack() as stack:
        programs = Programs(Path(folder))
        stack.callback(programs.stop)
        clip = make_clip_of(Path(folder) / "clip.flv", seconds)
        tap = stack.enter_context(closing(Tap(start_nginx(programs, Path(folder))[1])))
        _, far = start_gateway(
            programs, "--listen", f"{LOOPBACK}:0", "--upstream", f"{LOOPBACK}:{tap.port}"
        )
        scissors = stack.enter_context(closing(Scissors(far, How.RESET, _CUT_EVERY_S)))
        client = start_tunnel(programs, scissors.port)
        packets = packets_of_media(clip)
        began_at = monotonic()
        carry(programs, tap, client.port, "live/survival", clip).arrives(packets, seconds + _ENDS_S)
        print(
            f"{scissors.cuts} cuts in {monotonic() - began_at:.0f} s:"
            f" all {len(packets)} packets arrived unchanged, in order"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]))
