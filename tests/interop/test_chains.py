"""A gateway whose media server is another gateway, or another RTMPT server, reached through HTTP.

The programs speak RTMP or RTMPT with the near gateway. It is a client of the far one, by RTMPT or RTMPTS.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from attrs import frozen

from tests.helpers.interop import secure
from tests.helpers.interop.clients import LOST_BY_FFMPEG, FFmpegPlayer, publish, url
from tests.helpers.interop.clips import Packet
from tests.helpers.interop.programs import Program, Programs, squid, squid_folder, until
from tests.helpers.interop.relay import How
from tests.helpers.interop.scissors import Scissors
from tests.helpers.interop.servers import (
    ANY_PORT,
    LOOPBACK,
    run_nginx,
    start_configured_gateway,
    start_gateway,
    start_haproxy,
)
from tests.helpers.interop.streams import Talk, connected
from tests.helpers.interop.strict_tunnel import StrictTunnel
from tests.interop.conftest import Upstream

_ENDS_S = 30.0
# Another address of this machine.
_CLIENT = "127.0.0.2"
_TRUSTED = 'trusted = ["127.0.0.1"]'
_CUT_EVERY_S = 0.3
_NGINX = """
events {{ worker_connections 256; }}
http {{
    access_log off;
    {temp_paths}
    upstream gateway {{ server {gateway}; keepalive 8; }}
    server {{
        listen {listen};
        location / {{
            proxy_pass http://gateway;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
"""
_SQUID = """
http_port {loopback}:{port} accel defaultsite=gateway
cache_peer {loopback} parent {gateway} 0 no-query originserver
http_access allow all
cache deny all
access_log none
pid_filename none
cache_log {folder}/cache.log
coredump_dir {folder}
visible_hostname squid
shutdown_lifetime 0 seconds
"""


@frozen
class Chain:
    """The two gateways, and what is between. ``near`` is the port for the programs."""

    programs: Programs
    upstream: Upstream
    near: int
    near_gateway: Program


def start_near(programs: Programs, server: str, more: str = "") -> tuple[Program, int]:
    return start_configured_gateway(programs, f"{_in_front_of(server)}{more}\n")


def start_far(
    programs: Programs, nginx: Upstream, workers: int, listener: str = ""
) -> tuple[Program, int]:
    return start_configured_gateway(programs, _in_front_of(nginx.server), listener, workers)


def _in_front_of(server: str) -> str:
    return f'[[upstream]]\nservers = ["{server}"]\n'


def start_chain(programs: Programs, upstream: Upstream, server: str, more: str = "") -> Chain:
    near_gateway, near = start_near(programs, server, more)
    return Chain(programs, upstream, near, near_gateway)


@pytest.fixture(scope="module")
def far(lasting_programs: Programs, tapped_nginx: Upstream) -> Iterator[int]:
    """The port of the far gateway, in front of nginx-rtmp."""
    program, port = start_gateway(lasting_programs, *ANY_PORT, "--upstream", tapped_nginx.server)
    yield port
    program.stop()


def carry(
    chain: Chain, way: str, stream: str, clip: Path, packets: list[Packet], lost: int = 0
) -> None:
    """Publish through the chain, and play through it: no packet is missing or changed."""
    source = url(way, chain.near, stream)
    player = FFmpegPlayer(chain.programs, source)
    chain.upstream.tap.players(1)
    assert publish(chain.programs, clip, source).ends(_ENDS_S) == 0
    assert player.program.ends(_ENDS_S) == 0
    got = player.packets()
    assert got == packets[: len(got)]
    assert len(packets) - len(got) <= lost


@pytest.fixture(scope="module")
def lasting_near(lasting_programs: Programs, far: int) -> Iterator[tuple[Program, int]]:
    """A gateway in front of the far one, and its port."""
    program, port = start_near(lasting_programs, f"rtmpt://{LOOPBACK}:{far}")
    yield program, port
    program.stop()


@pytest.mark.parametrize("way", ["rtmp", "rtmpt"])
def test_media_arrives_unchanged_through_two_gateways(
    programs: Programs,
    nginx: Upstream,
    lasting_near: tuple[Program, int],
    way: str,
    stream: str,
    clip: Path,
    packets: list[Packet],
) -> None:
    near_gateway, near = lasting_near
    chain = Chain(programs, nginx, near, near_gateway)
    carry(chain, way, stream, clip, packets, LOST_BY_FFMPEG if way == "rtmpt" else 0)
    assert "Traceback" not in chain.near_gateway.log


def test_media_arrives_unchanged_through_two_gateways_with_tls_between(
    programs: Programs,
    nginx: Upstream,
    stream: str,
    clip: Path,
    packets: list[Packet],
    tmp_path: Path,
) -> None:
    authority = secure.make_authority(tmp_path)
    certificate = authority.certify("site.pem", LOOPBACK)
    far = secure.start(programs, [certificate], nginx.server)
    server = f"rtmpts://{LOOPBACK}:{far.port('rtmpts')}"
    more = f'tls_authorities = "{authority.root_path}"'
    carry(start_chain(programs, nginx, server, more), "rtmp", stream, clip, packets)
    # Without the authority, the far gateway is not accepted.
    near_gateway, port = start_near(programs, server)
    publish(programs, clip, url("rtmp", port, stream), in_real_time=False).ends(_ENDS_S)
    near_gateway.says("its certificate is of an unknown authority")


@pytest.mark.parametrize(
    ("listener", "upstream"),
    [
        (_TRUSTED, ""),
        (_TRUSTED + "\nproxy_protocol = true", 'proxy_protocol = "v1"'),
        (_TRUSTED + "\nproxy_protocol = true", 'proxy_protocol = "v2"'),
    ],
)
def test_the_far_gateway_learns_the_clients_address(
    programs: Programs, nginx: Upstream, stream: str, listener: str, upstream: str
) -> None:
    far_gateway, far = start_far(programs, nginx, 1, listener)
    _, near = start_near(programs, f"rtmpt://{LOOPBACK}:{far}", upstream)
    with connected("rtmp", near, ssl.create_default_context(), "", _CLIENT) as up:
        Talk(up).start("publish", stream)
        far_gateway.says(f'{_CLIENT} publishes "{stream}"')


@pytest.mark.parametrize(("how", "workers"), [(How.FIN, 1), (How.RESET, 1), (How.FIN, 2)])
def test_media_arrives_unchanged_while_the_link_is_cut_again_and_again(
    programs: Programs,
    nginx: Upstream,
    how: How,
    workers: int,
    stream: str,
    clip: Path,
    packets: list[Packet],
) -> None:
    # With two workers, new connections reach the one that does not own the session, too.
    _, far = start_far(programs, nginx, workers)
    with closing(Scissors(far, how, _CUT_EVERY_S)) as scissors:
        chain = start_chain(programs, nginx, f"rtmpt://{LOOPBACK}:{scissors.port}")
        carry(chain, "rtmp", stream, clip, packets)
        assert scissors.cuts > 10


@pytest.fixture(params=["haproxy", "nginx", "squid"])
def proxied(request: pytest.FixtureRequest, programs: Programs, far: int) -> int:
    """The port of a reverse proxy in front of the far gateway."""
    if request.param == "haproxy":
        return start_haproxy(programs, far, "", mode="http")
    if request.param == "nginx":
        return run_nginx(programs, _NGINX, gateway=f"{LOOPBACK}:{far}")[1]
    return start_squid(programs, far)


def start_squid(programs: Programs, far: int) -> int:
    with socket.create_server((LOOPBACK, 0)) as free:
        port = free.getsockname()[1]
    folder = squid_folder(programs)
    file = folder / "squid.conf"
    file.write_text(_SQUID.format(loopback=LOOPBACK, port=port, gateway=far, folder=folder))
    program = programs.start(*squid(file))
    until(lambda: _accepts(port) or not program.running, "squid accepts connections")
    assert program.running, program.log
    return port


def _accepts(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex((LOOPBACK, port)) == 0


def test_media_arrives_unchanged_through_a_proxy_between_the_gateways(
    programs: Programs,
    nginx: Upstream,
    proxied: int,
    stream: str,
    clip: Path,
    packets: list[Packet],
) -> None:
    chain = start_chain(programs, nginx, f"rtmpt://{LOOPBACK}:{proxied}")
    carry(chain, "rtmp", stream, clip, packets)


@pytest.fixture
def strict(nginx: Upstream) -> Iterator[StrictTunnel]:
    with closing(StrictTunnel(nginx.tap.port)) as server:
        yield server


def test_media_arrives_unchanged_through_a_server_that_takes_one_command_at_a_time(
    programs: Programs,
    nginx: Upstream,
    strict: StrictTunnel,
    stream: str,
    clip: Path,
    packets: list[Packet],
) -> None:
    chain = start_chain(programs, nginx, f"rtmpt://{LOOPBACK}:{strict.port}")
    carry(chain, "rtmp", stream, clip, packets)
    assert not strict.faults
    assert strict.commands[b"open"] == 2
    until(lambda: strict.commands.get(b"close") == 2, "both sessions are closed")


def test_a_server_that_closes_each_connection_after_an_answer_is_enough(
    programs: Programs, nginx: Upstream, stream: str, clip: Path, packets: list[Packet]
) -> None:
    with closing(StrictTunnel(nginx.tap.port, closes_after=3)) as strict:
        chain = start_chain(programs, nginx, f"rtmpt://{LOOPBACK}:{strict.port}")
        carry(chain, "rtmp", stream, clip, packets)
        assert not strict.faults


def test_a_far_gateway_that_restarts_ends_its_sessions_at_once_and_takes_new_ones(
    programs: Programs, nginx: Upstream, stream: str, clip: Path, packets: list[Packet]
) -> None:
    far_gateway, far = start_gateway(programs, *ANY_PORT, "--upstream", nginx.server)
    chain = start_chain(programs, nginx, f"rtmpt://{LOOPBACK}:{far}")
    to = url("rtmp", chain.near, stream)
    publisher = publish(programs, clip, to, in_a_loop=True)
    nginx.tap.publishers(1)
    far_gateway.stop()
    start_gateway(programs, "--listen", f"{LOOPBACK}:{far}", "--upstream", nginx.server)
    assert publisher.ends(_ENDS_S) != 0
    carry(chain, "rtmp", f"{stream}-again", clip, packets)
