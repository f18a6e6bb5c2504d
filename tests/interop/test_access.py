"""Access control with real clients and media servers: rules, signed keys and callbacks."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from signal import SIGTERM
from time import perf_counter, time

import pytest

from gateway.protocols.access import Action
from gateway.protocols.rtmp.amf import Value
from gateway.protocols.stream_keys import sign
from tests.helpers.interop.callback_server import CallbackServer
from tests.helpers.interop.clients import LOST_BY_FFMPEG, FFmpegPlayer, publish, url
from tests.helpers.interop.clips import Packet
from tests.helpers.interop.programs import Program, Programs, until
from tests.helpers.interop.servers import LOOPBACK, start_gateway
from tests.helpers.interop.streams import Talk, connected
from tests.interop.conftest import Upstream

_GATEWAY = """workers = 1
[[listener]]
address = "{loopback}:0"
[[upstream]]
servers = ["{server}"]
[admin]
address = "{loopback}:0"
{more}
"""
_ENDS_S = 20.0
_WAYS = ("rtmpt", "rtmp")
_SECRET = "0123456789abcdef"
# Other addresses of this machine.
_TRUSTED, _OTHER = "127.0.0.2", "127.0.0.3"
_PUBLISHERS = f"""
[[access]]
allow = "publish"
clients = ["{_TRUSTED}"]
[[access]]
deny = "publish"
[[access]]
deny = "connect"
application = "hidden*"
"""


def start(programs: Programs, folder: Path, server: str, more: str) -> tuple[Program, int]:
    file = folder / "gateway.toml"
    file.write_text(_GATEWAY.format(loopback=LOOPBACK, server=server, more=more))
    return start_gateway(programs, "--config", str(file))


@pytest.fixture
def callbacks() -> Iterator[CallbackServer]:
    with closing(CallbackServer()) as server:
        yield server


def configured(callbacks: CallbackServer, *names: str, more: str = "") -> str:
    """The configuration that calls ``callbacks`` for these events."""
    urls = "\n".join(f'on_{name} = "{callbacks.url}{name}"' for name in names)
    return f"[callback]\n{urls}\n{more}\n"


def code_of(status: Value) -> Value:
    assert isinstance(status, dict)
    return status["code"]


# Rules


def test_a_rule_lets_only_its_networks_publish(
    programs: Programs, tmp_path: Path, nginx: Upstream, stream: str
) -> None:
    program, port = start(programs, tmp_path, nginx.server, _PUBLISHERS)
    context = ssl.create_default_context()
    for way in _WAYS:
        with connected(way, port, context, "", _TRUSTED) as up:
            talk = Talk(up)
            status = talk.start("publish", f"{stream}-{way}")
            assert code_of(status) == "NetStream.Publish.Start"
            talk.end()
        with connected(way, port, context, "", _OTHER) as up:
            talk = Talk(up)
            assert talk.start("publish", f"{stream}-{way}") == {
                "level": "error",
                "code": "NetStream.Publish.BadName",
                "description": "not allowed to publish",
            }
    until(lambda: program.log.count("refused by access control") == len(_WAYS), "both are logged")
    assert sum(b"publish" in bytes(link.up) for link in nginx.tap.links) == len(_WAYS)


def test_ffmpeg_says_why_it_is_refused(
    programs: Programs, tmp_path: Path, nginx: Upstream, clip: Path, stream: str
) -> None:
    _, port = start(programs, tmp_path, nginx.server, _PUBLISHERS)
    for way in _WAYS:
        publisher = publish(programs, clip, url(way, port, stream))
        assert publisher.ends(_ENDS_S) != 0
        assert "not allowed to publish" in publisher.log
        player = FFmpegPlayer(programs, url(way, port, "hidden/x"))
        assert player.program.ends(_ENDS_S) != 0
        assert "not allowed to connect" in player.program.log


# Signed keys


def test_a_signed_key_is_valid_until_it_expires(
    programs: Programs, tmp_path: Path, nginx: Upstream, clip: Path, stream: str
) -> None:
    secrets = tmp_path / "secrets"
    secrets.write_text(f"# for encoders\n{_SECRET}\n")
    secrets.chmod(0o600)
    _, port = start(programs, tmp_path, nginx.server, f'[stream_keys]\nsecrets_file = "{secrets}"')
    for way in _WAYS:
        valid = publish(
            programs, clip, signed(way, port, f"{stream}-{way}", 60), in_real_time=False
        )
        assert valid.ends(_ENDS_S) == 0
        expired = publish(programs, clip, signed(way, port, f"{stream}-{way}", -1))
        assert expired.ends(_ENDS_S) != 0
        assert "the key has expired" in expired.log


def signed(way: str, port: int, stream: str, valid_s: int) -> str:
    """The address of ``stream`` with a key for publishing."""
    application, _, name = stream.partition("/")
    expires = str(int(time()) + valid_s)
    token = sign(_SECRET.encode(), Action.PUBLISH, application, name, expires)
    return url(way, port, f"{stream}?expires={expires}&token={token}")


# Callbacks


@pytest.mark.parametrize("way", ["rtmpt", "rtmp"])
def test_media_of_allowed_clients_is_exact(
    programs: Programs,
    tmp_path: Path,
    nginx: Upstream,
    callbacks: CallbackServer,
    clip: Path,
    packets: list[Packet],
    stream: str,
    way: str,
) -> None:
    more = configured(callbacks, "connect", "publish", "play", "done")
    _, port = start(programs, tmp_path, nginx.server, more)
    player = FFmpegPlayer(programs, url(way, port, f"{stream}?who=viewer"))
    nginx.tap.players(1)
    assert publish(programs, clip, url(way, port, f"{stream}?key=x&app=evil")).ends(_ENDS_S) == 0
    assert player.program.ends(_ENDS_S) == 0
    received = player.packets()
    assert received == packets[: len(received)]
    assert len(received) >= len(packets) - (LOST_BY_FFMPEG if way == "rtmpt" else 0) - 1
    name = stream.partition("/")[2]
    (asked,) = callbacks.named("publish")
    assert asked.pop("clientid")
    assert asked.pop("flashver")
    assert asked.pop("tcurl") == url(way, port, "live")
    assert asked == {
        "call": "publish",
        "addr": LOOPBACK,
        "app": "live",
        "name": name,
        "key": "x",
        "swfurl": "",
        "pageurl": "",
    }
    (asked,) = callbacks.named("play")
    assert (asked["name"], asked["who"]) == (name, "viewer")
    done = until(
        lambda: found if len(found := callbacks.named("done")) == 2 else None, "both are done"
    )
    assert {(each["action"], each["name"]) for each in done} == {("publish", name), ("play", name)}
    assert all(int(each["bytes_in"]) > 3000 for each in done)


def test_a_callback_gets_the_fields_of_the_clients_request(
    programs: Programs,
    tmp_path: Path,
    nginx: Upstream,
    callbacks: CallbackServer,
    clip: Path,
    stream: str,
) -> None:
    _, port = start(programs, tmp_path, nginx.server, configured(callbacks, "publish"))
    to = url("rtmpt", port, stream)
    assert publish(programs, clip, to, in_real_time=False).ends(_ENDS_S) == 0
    assert callbacks.headers["User-Agent"] == "Shockwave Flash"


@pytest.mark.parametrize(("way", "method"), [("rtmpt", "post"), ("rtmp", "get")])
def test_a_redirected_publish_has_the_new_name(
    programs: Programs,
    tmp_path: Path,
    nginx: Upstream,
    clip: Path,
    packets: list[Packet],
    stream: str,
    way: str,
    method: str,
) -> None:
    name = stream.partition("/")[2]
    with closing(CallbackServer(lambda _: (302, f"{name}-and-more?x=y"))) as callbacks:
        more = configured(callbacks, "publish", more=f'method = "{method}"')
        _, port = start(programs, tmp_path, nginx.server, more)
        player = FFmpegPlayer(programs, url("rtmp", port, f"{stream}-and-more"))
        nginx.tap.players(1)
        assert publish(programs, clip, url(way, port, stream)).ends(_ENDS_S) == 0
        assert player.program.ends(_ENDS_S) == 0
        received = player.packets()
        assert received == packets[: len(received)]
        assert len(received) >= len(packets) - (LOST_BY_FFMPEG if way == "rtmpt" else 0) - 1


def test_a_callback_refuses(
    programs: Programs, tmp_path: Path, nginx: Upstream, clip: Path, stream: str
) -> None:
    with closing(CallbackServer(lambda _: (403, ""))) as callbacks:
        _, port = start(programs, tmp_path, nginx.server, configured(callbacks, "publish"))
        for way in _WAYS:
            publisher = publish(programs, clip, url(way, port, stream))
            assert publisher.ends(_ENDS_S) != 0
            assert "refused by the server's rules" in publisher.log


@pytest.mark.parametrize(
    ("way", "failure", "on_failure"),
    [("rtmpt", "hangs", "deny"), ("rtmpt", "is dead", "allow"), ("rtmp", "hangs", "allow")],
)
def test_a_callback_that_fails_decides_as_configured(
    *,
    programs: Programs,
    tmp_path: Path,
    nginx: Upstream,
    clip: Path,
    stream: str,
    way: str,
    on_failure: str,
    failure: str,
) -> None:
    callbacks = CallbackServer()
    with closing(callbacks):
        more = f'timeout_s = 0.5\non_failure = "{on_failure}"'
        program, port = start(
            programs, tmp_path, nginx.server, configured(callbacks, "publish", more=more)
        )
        if failure == "hangs":
            callbacks.goes_on.clear()
        else:
            callbacks.close()
        begun = perf_counter()
        publisher = publish(programs, clip, url(way, port, stream), in_real_time=False)
        assert (publisher.ends(_ENDS_S) == 0) is (on_failure == "allow")
        assert perf_counter() - begun < 10
        if on_failure == "deny":
            assert "it cannot be checked now" in publisher.log
        program.says("the callback on_publish failed")


def test_the_end_of_the_gateway_reports_its_streams(
    programs: Programs,
    tmp_path: Path,
    nginx: Upstream,
    callbacks: CallbackServer,
    clip: Path,
    stream: str,
) -> None:
    more = configured(callbacks, "done") + "[limits]\ndrain_s = 0\n"
    program, port = start(programs, tmp_path, nginx.server, more)
    publish(programs, clip, url("rtmp", port, stream), in_a_loop=True)
    until(lambda: any(b"publish" in bytes(link.up) for link in nginx.tap.links), "it publishes")
    program.send(SIGTERM)
    program.ends(_ENDS_S)
    assert [each["reason"] for each in callbacks.named("done")] == ["drained"]


def test_a_refused_publisher_replaces_nobody(
    programs: Programs, tmp_path: Path, nginx: Upstream, stream: str
) -> None:
    with closing(CallbackServer(lambda asked: (403 if "no" in asked else 200, ""))) as callbacks:
        more = configured(callbacks, "publish") + "[tunnel]\nreplace_publisher = true\n"
        _, port = start(programs, tmp_path, nginx.server, more)
        context = ssl.create_default_context()
        with (
            connected("rtmp", port, context, "") as up,
            connected("rtmpt", port, context, "") as other,
        ):
            talk = Talk(up)
            talk.start("publish", stream)
            status = Talk(other).start("publish", f"{stream}?no=1")
            assert code_of(status) == "NetStream.Publish.BadName"
            talk.end()
            assert up.receive() == b""
