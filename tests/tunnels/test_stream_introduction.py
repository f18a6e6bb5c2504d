"""Sessions whose server depends on their stream, as relays and as tunnels."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import UpstreamUnavailable
from gateway.protocols.reasons import EndReason
from gateway.protocols.routes import Route
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.chunks import ChunkReader
from gateway.protocols.rtmp.commands import Command, read_command
from gateway.protocols.rtmp.handshake import HANDSHAKE_BYTES
from gateway.protocols.rtmp.messages import Message, MessageType
from gateway.upstreams.pool import OpeningFailed
from tests.helpers.line import Line
from tests.tunnels.introductions import (
    C0_C1,
    C2,
    CONNECT_MESSAGE,
    LIMITS,
    Bench,
    Make,
    RelayedClient,
    TunnelledClient,
    answer,
)

EACH = pytest.mark.parametrize("make", [RelayedClient, TunnelledClient])
ROUTES = (
    Route(("cameras",), applications=["live"], streams=["cam*"]),
    Route(("others",), streams=["*"]),
    Route(("reserve",)),
)
CREATE = Command("createStream", 2.0)
PUBLISH = Command("publish", 3.0, None, ("cam1?key=1", "live"), 1)
PLAY = Command("play", 3.0, None, ("film",), 1)
CONNECTED = Command("_result", 1.0, {}, ({"code": "NetConnection.Connect.Success"},))
CREATED = Command("_result", 2.0, None, (1.0,))
STARTED = Command("onStatus", 0.0, None, ({"code": "NetStream.Publish.Start"},), 1)
REJECTED = Command("_error", 1.0, None, ({"level": "error", "description": "not today"},))
MEDIA = b"\xff untouched"


def written(*commands: Command) -> bytes:
    writer = ChunkWriter()
    return b"".join(writer.write(each.message()) for each in commands)


def commands_in(received: bytes) -> list[Command]:
    found = map(read_command, ChunkReader().feed(received[HANDSHAKE_BYTES:]))
    return [each for each in found if each is not None]


def asking(make: Make, bench: Bench, *commands: Command) -> tuple[Any, bytes]:
    """A client that has sent its connect and these commands, and all that it has sent."""
    client, writer = make(bench), ChunkWriter()
    client.says(C0_C1)
    client.says(C2)
    sent = b""
    for command in (read_command(CONNECT_MESSAGE), *commands):
        assert command is not None
        piece = writer.write(command.message())
        client.says(piece)
        sent += piece
    return client, sent


def replayed(server: Line) -> None:
    """The server answers the handshake, connect and createStream."""
    writer = ChunkWriter()
    answer(server)
    server.says(writer.write(CONNECTED.message()))
    assert [each.name for each in commands_in(bytes(server.received))] == [
        "connect",
        "createStream",
    ]
    server.says(writer.write(CREATED.message()))


def error_of(client: Any) -> tuple[int, str, str]:
    """Stream, code and description of the last status."""
    last = commands_in(client.received)[-1]
    information: Any = last.argument(0)
    assert last.name == "onStatus"
    assert information["level"] == "error"
    return last.stream_id, information["code"], information["description"]


# --- The choice ---


@EACH
@pytest.mark.parametrize(
    ("request_", "upstreams", "key"),
    [(PUBLISH, ("cameras",), "live/cam1"), (PLAY, ("others",), "live/film")],
)
def test_the_first_publish_or_play_selects_the_server(
    make: Make, request_: Command, upstreams: tuple[str, ...], key: str
) -> None:
    bench = Bench(*ROUTES)
    client, _ = asking(make, bench, CREATE)
    assert [each.name for each in commands_in(client.received)] == ["_result", "_result"]
    assert bench.asked == []
    client.says(written(request_))
    assert bench.asked == [("192.0.2.1", upstreams, "live")]
    assert bench.stream_keys == [key]


@EACH
def test_a_call_that_only_a_server_can_answer_selects_one_without_a_stream(make: Make) -> None:
    bench = Bench(*ROUTES)
    client, sent = asking(make, bench, Command("getRooms", 2.0))
    assert bench.asked == [("192.0.2.1", ("reserve",), "live")]
    assert bench.stream_keys == [""]
    server = bench.accepts()
    answer(server)
    server.says(written(CONNECTED))
    assert server.received.endswith(sent)
    server.says(ChunkWriter().write(Command("_result", 2.0, None, ("rooms",)).message()))
    assert commands_in(client.received)[-1].argument(0) == "rooms"
    assert server.protocol is client.side


@EACH
def test_an_application_whose_route_has_no_stream_is_not_answered(make: Make) -> None:
    bench = Bench(Route(("vod",), applications=["live"]), *ROUTES)
    client, _ = asking(make, bench)
    assert bench.asked == [("192.0.2.1", ("vod",), "live")]
    assert commands_in(client.received) == []


@EACH
def test_rtmpe_matches_no_stream(make: Make) -> None:
    bench = Bench(*ROUTES)
    make(bench).says(b"\x06" + C0_C1[1:])
    assert bench.asked == [("192.0.2.1", ("reserve",), "")]


# --- The server ---


@EACH
def test_the_server_gets_the_clients_bytes_and_the_client_what_it_has_not_heard(
    make: Make,
) -> None:
    bench = Bench(*ROUTES)
    client, sent = asking(make, bench, CREATE, PUBLISH)
    client.says(MEDIA)
    server = bench.accepts()
    replayed(server)
    assert client.session.server == "media:1935"
    server.says(ChunkWriter().write(STARTED.message(), 5) + b"down")
    assert server.received[HANDSHAKE_BYTES:] == sent + MEDIA
    (*_, last) = commands_in(client.received[: -len(b"down")])
    assert last == STARTED
    assert client.received.endswith(b"down")


@EACH
def test_after_that_the_session_has_the_servers_transport_itself(make: Make) -> None:
    bench = Bench(*ROUTES)
    client, _ = asking(make, bench, CREATE, PUBLISH)
    server = bench.accepts()
    replayed(server)
    assert client.way is server
    assert server.protocol is not client.side
    server.says(ChunkWriter().write(STARTED.message(), 5))
    assert server.protocol is client.side
    client.says(MEDIA)
    server.says(b"down")
    assert server.received.endswith(MEDIA)
    assert client.received.endswith(b"down")
    assert bench.kept == 0


@EACH
def test_a_server_with_other_stream_ids_is_translated(make: Make) -> None:
    bench = Bench(*ROUTES)
    client, _ = asking(make, bench, CREATE, PUBLISH)
    server, writer = bench.accepts(), ChunkWriter()
    answer(server)
    server.says(writer.write(CONNECTED.message()))
    server.says(writer.write(Command("_result", 2.0, None, (9.0,)).message()))
    server.says(writer.write(Command("onStatus", 0.0, None, STARTED.arguments, 9).message(), 5))
    assert commands_in(client.received)[-1] == STARTED
    client.says(ChunkWriter().write(Message(MessageType.VIDEO, b"frame", 1), 6))
    got = ChunkReader().feed(bytes(server.received[HANDSHAKE_BYTES:]))
    assert [each.stream_id for each in got[-2:]] == [9, 9]


@EACH
def test_the_url_is_rewritten_for_the_server_that_is_tried(make: Make) -> None:
    rewriting = {"tcUrl": "rtmp://{server}/long/{app}"}
    bench = Bench(Route(("live",), streams=["*"], rewriting=rewriting))
    bench.servers = 2
    asking(make, bench, CREATE, PUBLISH)
    for name in ("one:1935", "two:1935"):
        server = bench.accepts(name=name)
        answer(server)
        (connect,) = commands_in(bytes(server.received))
        assert isinstance(connect.object, dict)
        assert connect.object["tcUrl"] == f"rtmp://{name}/long/live"
        if len(bench.failures) == 0:
            server.resets()
    server.says(written(CONNECTED))
    server.says(ChunkWriter().write(CREATED.message()))
    assert [each.name for each in commands_in(bytes(server.received))] == [
        *("connect", "createStream", "publish")
    ]


@EACH
def test_observers_can_hold_back_the_publish(make: Make) -> None:
    bench = Bench(*ROUTES)
    bench.observe = lambda session: session.hold_upstream(True)
    client, sent = asking(make, bench, CREATE, PUBLISH)
    server = bench.accepts()
    replayed(server)
    assert PUBLISH.message().payload not in server.received
    client.session.hold_upstream(False)
    server.turn()
    assert server.received.endswith(sent)


@EACH
def test_much_behind_a_publish_waits_for_the_server(make: Make) -> None:
    bench, behind = Bench(*ROUTES), bytes(range(256)) * 1000
    client, sent = asking(make, bench, CREATE)
    request_ = ChunkWriter().write(PUBLISH.message(), 8)
    client.says(request_ + behind)
    assert not client.reads
    server = bench.accepts()
    replayed(server)
    assert server.received[HANDSHAKE_BYTES:] == sent + request_ + behind
    assert client.reads


# --- Failures ---


@EACH
@pytest.mark.parametrize("stage", ["handshake", "connect", "createStream", "silent", "malformed"])
def test_a_server_that_fails_before_the_publish_is_followed_by_the_next(
    make: Make, stage: str
) -> None:
    bench = Bench(*ROUTES)
    bench.servers = 2
    client, sent = asking(make, bench, CREATE, PUBLISH)
    failing = bench.accepts()
    if stage != "handshake":
        answer(failing)
    if stage == "createStream":
        failing.says(written(CONNECTED))
    if stage == "silent":
        bench.passes(LIMITS.upstream_connect_s - 0.1)
        assert not failing.aborted
        bench.passes(0.2)
        assert failing.aborted
    elif stage == "malformed":
        failing.says(b"\xc9")
        assert failing.aborted
    else:
        failing.resets()
    (error,) = bench.failures
    assert isinstance(error, OpeningFailed) is (stage != "handshake")
    server = bench.accepts()
    replayed(server)
    server.says(ChunkWriter().write(STARTED.message(), 5))
    assert server.received[HANDSHAKE_BYTES:] == sent
    assert commands_in(client.received)[-1] == STARTED
    assert bench.ends == []


@EACH
def test_a_server_that_leaves_before_anybody_looks_is_followed_by_the_next(make: Make) -> None:
    bench = Bench(*ROUTES)
    bench.servers = 2
    asking(make, bench, CREATE, PUBLISH)
    protocol, dial = bench.dials.pop(0)
    failing = Line().connect(protocol)
    answer(failing)
    failing.resets()
    dial.callback("media:1935")
    assert len(bench.failures) == 1
    replayed(bench.accepts())
    assert bench.ends == []


@EACH
@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (PUBLISH, (1, "NetStream.Publish.BadName", "not today")),
        (PLAY, (1, "NetStream.Play.Failed", "not today")),
        (Command("getRooms", 3.0), (0, "NetConnection.Connect.Failed", "not today")),
    ],
)
def test_a_refused_connect_is_the_answer_to_the_request(
    make: Make, request_: Command, error: tuple[int, str, str]
) -> None:
    bench = Bench(*ROUTES)
    client, _ = asking(make, bench, CREATE, request_)
    server = bench.accepts()
    answer(server)
    server.says(written(REJECTED))
    assert error_of(client) == error
    assert client.session.server == "media:1935"
    bench.turn()
    assert bench.ends == [EndReason.UPSTREAM_CLOSED]
    assert server.aborted


@EACH
def test_without_a_server_the_client_gets_an_error_for_its_request(make: Make) -> None:
    bench = Bench(*ROUTES)
    client, _ = asking(make, bench, CREATE, PLAY)
    bench.refuses()
    assert error_of(client) == (1, "NetStream.Play.Failed", "No media server is available.")
    assert [type(each) for each in bench.refused] == [UpstreamUnavailable]
    bench.turn()
    assert bench.ends == [EndReason.UPSTREAM_UNAVAILABLE]


@EACH
def test_malformed_commands_end_the_session(make: Make) -> None:
    bench = Bench(*ROUTES)
    client, _ = asking(make, bench)
    client.says(b"\xc9")
    bench.turn()
    assert bench.ends == [EndReason.ABANDONED]
    assert bench.asked == []


@EACH
def test_a_client_that_leaves_before_its_request_leaves_nothing(make: Make) -> None:
    bench = Bench(*ROUTES)
    client, _ = asking(make, bench, CREATE)
    client.leaves()
    bench.turn()
    assert len(bench.ends) == 1
    assert bench.kept == 0
    assert bench.asked == []


# --- Time ---


@EACH
def test_a_client_that_waits_behind_its_connect_gets_a_bandwidth_notice(make: Make) -> None:
    bench = Bench(*ROUTES)
    client, _ = asking(make, bench)
    bench.passes(0.9)
    assert len(commands_in(client.received)) == 1
    bench.passes(0.2)
    assert len(commands_in(client.received)) == 2
    bench.passes(100.0)
    assert [each.name for each in commands_in(client.received)] == ["_result", "onBWDone"]
    assert bench.ends == []


@EACH
def test_one_that_has_gone_on_may_wait_as_long_as_it_likes(make: Make) -> None:
    bench = Bench(*ROUTES)
    client, _ = asking(make, bench, CREATE)
    bench.passes(1000.0)
    assert len(commands_in(client.received)) == 2
    assert bench.ends == []
