"""Real programs publish and play through the tunnel client, over each way to a gateway and nginx-rtmp."""

from __future__ import annotations

import os
import re
import signal
import socket
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import final

import imageio_ffmpeg
import pytest
from attrs import frozen

from tests.helpers.interop.clients import (
    FFmpegPlayer,
    GStreamer2Player,
    current_ffmpeg_player,
    publish,
    publish_by_gstreamer,
    url,
)
from tests.helpers.interop.clips import Packet, lacks_at_most_the_last, of_stream
from tests.helpers.interop.programs import Programs, until
from tests.helpers.interop.relay import Link, Relay
from tests.helpers.interop.secure import make_authority
from tests.helpers.interop.servers import LOOPBACK, start_gateway
from tests.helpers.interop.streams import WAYS
from tests.helpers.interop.tunnel_client import TunnelClient, start_client
from tests.helpers.interop.watched import WatchedGateway, start_watched_gateway
from tests.interop.conftest import Upstream

NAME = "localhost"
_PUBLISHED_S = 20.0
_PLAYED_S = 20.0
_HELD_S = 20.0
# twistd ends by the signal that it gets.
_ENDED = -signal.SIGTERM
_MORE = """
[[listener]]
address = "{loopback}:0"
tls = true
[tls]
certificates = ["{certificate}"]
[[upstream]]
servers = ["{server}"]
"""


@frozen
class Site:
    """A gateway with a plain port and one with TLS, before nginx-rtmp."""

    gateway: WatchedGateway
    secure_port: int
    root_path: str

    def way(self, protocol: str, port: int = 0) -> tuple[str, ...]:
        """The client's option for a protocol, by default on the gateway's port for it."""
        own = self.secure_port if protocol in ("rtmps", "rtmpts") else self.gateway.port
        return "--way", f"{protocol}:{port or own}"

    def start_client(self, programs: Programs, *ways: str) -> TunnelClient:
        return start_client(programs, "--gateway", NAME, "--ca", self.root_path, *ways)


@pytest.fixture(scope="module")
def site(lasting_programs: Programs, tapped_nginx: Upstream) -> Site:
    authority = make_authority(lasting_programs.new_folder("authority"))
    certificate = authority.certify("site.pem", NAME)
    gateway = start_watched_gateway(
        lasting_programs,
        _MORE.format(loopback=LOOPBACK, certificate=certificate, server=tapped_nginx.server),
    )
    ports = re.findall(rf"listening on {LOOPBACK}:(\d+)", gateway.program.log)
    return Site(gateway, int(ports[1]), authority.root_path)


@pytest.fixture(scope="module")
def lasting_clients() -> dict[str, TunnelClient]:
    """The clients that ``client`` has started, by their ways."""
    return {}


@pytest.fixture(params=WAYS)
def client(
    request: pytest.FixtureRequest,
    lasting_programs: Programs,
    lasting_clients: dict[str, TunnelClient],
    site: Site,
) -> TunnelClient:
    """A client of each way in turn."""
    way: str = request.param
    if way not in lasting_clients:
        lasting_clients[way] = site.start_client(lasting_programs, *site.way(way))
    return lasting_clients[way]


# --- Each way ---


def test_all_players_get_what_ffmpeg_publishes(
    client: TunnelClient,
    programs: Programs,
    nginx: Upstream,
    stream: str,
    clip: Path,
    packets: list[Packet],
) -> None:
    local = url("rtmp", client.port, stream)
    player, current = FFmpegPlayer(programs, local), current_ffmpeg_player(programs, local)
    gstreamer = GStreamer2Player(programs, local)
    nginx.tap.players(3)
    assert publish(programs, clip, local, in_real_time=False).ends(_PUBLISHED_S) == 0
    for each in (player, current, gstreamer):
        assert each.program.ends(_PLAYED_S) == 0
    assert player.packets() == packets
    assert current.packets() == packets
    assert lacks_at_most_the_last(gstreamer.packets(), packets)


def test_players_get_what_gstreamer_and_the_current_ffmpeg_publish(
    client: TunnelClient,
    programs: Programs,
    nginx: Upstream,
    stream: str,
    clip: Path,
    packets: list[Packet],
) -> None:
    streams = [url("rtmp", client.port, f"{stream}{letter}") for letter in "ab"]
    players = [FFmpegPlayer(programs, each) for each in streams]
    nginx.tap.players(2)
    publishers = [
        publish_by_gstreamer(programs, clip, streams[0]),
        publish(
            *(programs, clip, streams[1]),
            in_real_time=False,
            program=imageio_ffmpeg.get_ffmpeg_exe(),
        ),
    ]
    assert [each.ends(_PUBLISHED_S) for each in publishers] == [0, 0]
    assert [each.program.ends(_PLAYED_S) for each in players] == [0, 0]
    # GStreamer mixes the two streams otherwise than FFmpeg.
    for index in (0, 1):
        assert of_stream(players[0].packets(), index) == of_stream(packets, index)
    assert players[1].packets() == packets


# --- The race ---


@final
class Held(Link):
    """Passes on nothing of the server's before ``released``."""

    released = Event()

    def from_client(self, data: bytes) -> None:
        self.server.sendall(data)

    def from_server(self, data: bytes) -> None:
        self.released.wait(_HELD_S)
        self.client.sendall(data)


def test_the_ways_that_lose_leave_no_session_on_the_gateway(
    site: Site, programs: Programs, nginx: Upstream, stream: str
) -> None:
    Held.released.clear()
    with (
        closing(Relay(site.gateway.port, Held)) as plain,
        closing(Relay(site.secure_port, Held)) as secure,
    ):
        ways = (
            *(*site.way("rtmpt", plain.port), *site.way("rtmp", plain.port)),
            *(*site.way("rtmpts", secure.port), *site.way("rtmps")),
        )
        client = site.start_client(programs, *ways)
        FFmpegPlayer(programs, url("rtmp", client.port, stream))
        nginx.tap.players(1)
        assert f"goes by rtmps:{site.secure_port}" in client.program.log
        Held.released.set()
        until(lambda: len(site.gateway.sessions()) == 1, "only the player's session is left")
    (session,) = site.gateway.sessions()
    assert session["stream"] == stream.partition("/")[2]
    assert client.metric("rtmpt_client_streams") == 1


def test_the_way_that_was_used_is_tried_first_after_a_restart(
    site: Site, programs: Programs, nginx: Upstream, stream: str, refusing_port: int
) -> None:
    state = str(programs.new_folder("state") / "more" / "ways.json")
    ways = (*site.way("rtmp", refusing_port), *site.way("rtmpts"))
    for failures in (1, 0):
        client = start_client(
            *(programs, "--gateway", NAME, "--ca", site.root_path, *ways), state=state
        )
        FFmpegPlayer(programs, url("rtmp", client.port, stream))
        client.program.says("goes by rtmpts:")
        way = f"rtmp:{refusing_port}"
        name = "rtmpt_client_races_total"
        assert client.metric(f'{name}{{result="failed",way="{way}"}}') == failures
        client.program.send(signal.SIGTERM)
        assert client.program.ends(_PLAYED_S) == _ENDED


# --- The gateway's view, and its end ---


def test_the_gateway_shows_the_clients_name_and_figures(
    site: Site, programs: Programs, nginx: Upstream, stream: str
) -> None:
    client = site.start_client(programs, *site.way("rtmpt"))
    FFmpegPlayer(programs, url("rtmp", client.port, stream))
    nginx.tap.players(1)
    name = stream.partition("/")[2]
    shown = until(
        lambda: [each for each in site.gateway.sessions() if each["stream"] == name],
        "the session is shown",
    )
    assert re.fullmatch(r"rtmpt-client/\S+ \(LNX .*\)", shown[0]["client"])
    measured = until(
        lambda: next(each["client_figures"] for each in site.gateway.sessions()),
        "what the client has measured is shown",
    )
    assert 0 <= measured["round_trip_s"] < 1
    # The send of FFmpeg's play is held, until data follows.
    assert 0 <= measured["answer_s"] < 1
    client.program.send(signal.SIGTERM)
    assert client.program.ends(_PLAYED_S) == _ENDED
    until(
        lambda: all(each["stream"] != name for each in site.gateway.sessions()),
        "the client's end has closed its session",
    )


def test_when_the_gateway_is_killed_the_program_is_closed_and_the_next_one_is_told_why(
    programs: Programs, nginx: Upstream, stream: str, clip: Path
) -> None:
    gateway, port = start_gateway(programs, "--listen", f"{LOOPBACK}:0", "--upstream", nginx.server)
    client = start_client(programs, "--gateway", LOOPBACK, "--way", f"rtmp:{port}")
    local = url("rtmp", client.port, stream)
    publisher = publish(programs, clip, local, in_a_loop=True)
    nginx.tap.publishers(1)
    for pid in (*gateway.children, gateway.pid):
        os.kill(pid, signal.SIGKILL)
    assert publisher.ends(_PUBLISHED_S) != 0
    client.program.says("stream 1 by ")
    again = publish(programs, clip, local)
    assert again.ends(_PUBLISHED_S) != 0
    refusal = client.program.says("no way to ")
    assert f"rtmp:{port}: refused: nothing listens" in refusal


@pytest.mark.parametrize(
    ("name", "trusts", "sentence"),
    [
        (LOOPBACK, True, "the certificate is for another name"),
        (NAME, False, 'the authority of the certificate, "trustme'),
    ],
)
def test_a_gateway_whose_certificate_is_not_valid_gets_no_stream(
    site: Site, programs: Programs, name: str, trusts: bool, sentence: str
) -> None:
    authority = ("--ca", site.root_path) if trusts else ()
    ways = (*site.way("rtmps"), *site.way("rtmpts"))
    client = start_client(programs, "--gateway", name, *authority, *ways)
    with socket.create_connection((LOOPBACK, client.port)) as program:
        program.sendall(b"\x03" + bytes(1536))
        assert program.recv(1) == b""
    refusal = client.program.says("no way to ")
    # Once for both ways.
    assert re.search(rf"rtmps:\d+, rtmpts:\d+: {re.escape(sentence)}", refusal)
    assert refusal.count(sentence) == 1
