"""Real clients and servers behind routes by stream, and a hash of the stream."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import count
from pathlib import Path

import pytest
from attrs import frozen
from imageio_ffmpeg import get_ffmpeg_exe

from gateway.protocols.rtmp.amf import Value
from gateway.upstreams.hashing import order
from tests.helpers.interop.callback_server import CallbackServer
from tests.helpers.interop.clients import LOST_BY_FFMPEG, FFmpegPlayer, publish, url
from tests.helpers.interop.clips import Packet
from tests.helpers.interop.programs import Programs, until
from tests.helpers.interop.servers import LOOPBACK, start_configured_gateway, start_nginx
from tests.helpers.interop.streams import Talk, connected
from tests.helpers.interop.tap import Tap
from tests.interop.conftest import Upstream

_GATEWAY = """
[[upstream]]
name = "media"
servers = ["{first}", "{second}"]
choose = "hash"
hash_by = "stream"
check = "off"
[[upstream]]
name = "films"
servers = ["{films}"]
check = "off"
[[upstream]]
name = "failing"
servers = ["{loopback}:{nowhere}", "{spare}"]
choose = "hash"
hash_by = "stream"
check = "off"
[[upstream]]
name = "refusing"
servers = ["{refusing}"]
check = "off"
[[upstream]]
name = "tunnelled"
servers = ["rtmpt://{refusing}"]
check = "off"
[[route]]
upstream = "films"
stream = "film*"
[[route]]
upstream = "failing"
stream = "lost*"
[[route]]
upstream = "refusing"
application = "refused"
stream = "*"
[[route]]
upstream = "tunnelled"
application = "tunnelled"
stream = "*"
[[route]]
upstream = "media"
[[access]]
deny = "publish"
application = "denied"
[callback]
on_publish = "{callbacks}publish"
"""
_REFUSING = """
[[access]]
deny = "connect"
application = "refused"
"""
_ENDS_S = 20.0
_CONTEXT = ssl.create_default_context()


@frozen
class _Server:
    """What ``hashing`` needs of a server."""

    name: str
    weight: int = 1
    sessions: int = 0


@frozen
class _Setting:
    """A gateway in front of servers: two for cameras, one for films, and one for streams whose own server
    is down. ``renamed``: the names that the callback gives, by the client's.
    """

    port: int
    taps: tuple[Tap, Tap]
    films: Tap
    spare: Tap
    renamed: dict[str, str]

    def camera_of(self, tap: Tap) -> str:
        """The path of a stream that the hash gives to the server behind ``tap``."""
        return stream_of(tap.port, "camera", [each.port for each in self.taps])


_numbers = count()


def stream_of(port: int, prefix: str, ports: Sequence[int]) -> str:
    """The path of a stream that the hash gives to the server with this port, of all."""
    servers = [_Server(f"{LOOPBACK}:{each}") for each in ports]
    paths = (f"live/{prefix}{number}" for number in _numbers)
    return next(path for path in paths if order(path, servers)[0].name.endswith(f":{port}"))


@pytest.fixture(scope="module")
def nowhere() -> Iterator[int]:
    """A reserved port without a listener."""
    with socket.socket() as bound:
        bound.bind((LOOPBACK, 0))
        yield bound.getsockname()[1]


@pytest.fixture(scope="module")
def setting(
    lasting_programs: Programs, clips: Path, tapped_nginx: Upstream, nowhere: int
) -> Iterator[_Setting]:
    renamed: dict[str, str] = {}

    def answer(parameters: dict[str, str]) -> tuple[int, str]:
        name = renamed.get(parameters["name"], "")
        return (302, name) if name else (200, "")

    _, port = start_nginx(lasting_programs, clips)
    _, refusing = start_configured_gateway(lasting_programs, _REFUSING)
    with ExitStack() as stack:
        taps = [stack.enter_context(closing(Tap(port))) for _ in range(3)]
        callbacks = stack.enter_context(closing(CallbackServer(answer)))
        first, (second, films, spare) = tapped_nginx.tap, taps
        configuration = _GATEWAY.format(
            loopback=LOOPBACK,
            first=tapped_nginx.server,
            second=f"{LOOPBACK}:{second.port}",
            films=f"{LOOPBACK}:{films.port}",
            spare=f"{LOOPBACK}:{spare.port}",
            nowhere=nowhere,
            refusing=f"{LOOPBACK}:{refusing}",
            callbacks=callbacks.url,
        )
        _, gateway = start_configured_gateway(lasting_programs, configuration)
        yield _Setting(gateway, (first, second), films, spare, renamed)


def links_of(tap: Tap, path: str) -> int:
    """The number of connections whose client has named the stream at ``path``."""
    return sum(path.partition("/")[2].encode() in link.up for link in tap.links)


def played(setting: _Setting, paths: Sequence[str]) -> list[int]:
    """The number of clients of each server that have named its stream."""
    return [links_of(tap, path) for tap, path in zip(setting.taps, paths, strict=True)]


def test_publishers_are_spread_and_each_player_finds_its_own(
    programs: Programs, setting: _Setting, clip: Path, packets: list[Packet]
) -> None:
    paths = [setting.camera_of(tap) for tap in setting.taps]
    ways = ("rtmp", "rtmpt")
    players = [
        (way, FFmpegPlayer(programs, url(way, setting.port, path)))
        for way in ways
        for path in paths
    ]
    until(lambda: played(setting, paths) == [len(ways)] * 2, "all have named their streams")
    publishers = [
        publish(programs, clip, url("rtmp", setting.port, f"{path}?key=secret"), program=program)
        for program, path in zip(("ffmpeg", get_ffmpeg_exe()), paths, strict=True)
    ]
    assert [publisher.ends(_ENDS_S) for publisher in publishers] == [0, 0]
    for way, player in players:
        assert player.program.ends(_ENDS_S) == 0
        got = player.packets()
        assert got == packets[: len(got)]
        assert len(packets) - len(got) <= (LOST_BY_FFMPEG if way == "rtmpt" else 0)
    assert played(setting, paths) == [len(ways) + 1] * 2


@pytest.mark.parametrize("way", ["rtmp", "rtmpt"])
def test_the_stream_goes_to_another_server_if_its_own_is_down(
    setting: _Setting, nowhere: int, way: str
) -> None:
    path = stream_of(nowhere, "lost", [nowhere, setting.spare.port])
    assert publish_to(setting, way, path) == "NetStream.Publish.Start"
    assert links_of(setting.spare, path) == 1


def test_the_name_that_a_callback_gives_selects_the_server(setting: _Setting) -> None:
    path, given = map(setting.camera_of, setting.taps)
    setting.renamed[path.partition("/")[2]] = given.partition("/")[2]
    assert publish_to(setting, "rtmp", path) == "NetStream.Publish.Start"
    assert links_of(setting.taps[1], given) == 1


def test_a_route_by_stream_gets_its_own_upstream(setting: _Setting) -> None:
    path = f"live/film{next(_numbers)}"
    assert publish_to(setting, "rtmp", path) == "NetStream.Publish.Start"
    assert links_of(setting.films, path) == 1


@pytest.mark.parametrize("way", ["rtmp", "rtmpt"])
def test_a_publish_that_is_denied_reaches_no_server(setting: _Setting, way: str) -> None:
    path = f"denied/camera{next(_numbers)}"
    assert publish_to(setting, way, path) == "NetStream.Publish.BadName"
    assert played(setting, [path, path]) == [0, 0]


@pytest.mark.parametrize("way", ["rtmp", "rtmpt"])
def test_a_server_that_is_reached_through_a_tunnel_gets_the_stream(
    setting: _Setting, way: str
) -> None:
    assert publish_to(setting, way, "tunnelled/camera") == "NetStream.Publish.Start"


def test_ffmpeg_says_why_a_server_has_refused_its_connect(
    programs: Programs, setting: _Setting
) -> None:
    """The server is a gateway with a rule."""
    player = FFmpegPlayer(programs, url("rtmp", setting.port, "refused/camera"))
    assert player.program.ends(_ENDS_S) != 0
    assert "not allowed to connect" in player.program.log


def publish_to(setting: _Setting, way: str, path: str) -> Value:
    """Publish the stream for a moment. Returns the code of the server's answer."""
    with connected(way, setting.port, _CONTEXT, "") as up:
        talk = Talk(up)
        status = talk.start("publish", path)
    assert isinstance(status, dict)
    return status["code"]
