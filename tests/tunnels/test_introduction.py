"""Sessions whose server depends on their connect command, as relays and as tunnels."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import UpstreamUnavailable
from gateway.protocols.reasons import EndReason
from gateway.protocols.routes import Route
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.chunks import ChunkReader
from gateway.protocols.rtmp.commands import Command, read_command
from gateway.protocols.rtmp.digest import PLAYER, find_digest
from gateway.protocols.rtmp.handshake import (
    HANDSHAKE_BYTES,
)
from tests.helpers.flash_player import FlashPlayer
from tests.helpers.line import Line
from tests.helpers.logged import logged
from tests.tunnels.introductions import (
    C0_C1,
    C2,
    CONNECT,
    CONNECT_MESSAGE,
    LIMITS,
    ROUTES,
    Bench,
    Make,
    RelayedClient,
    TunnelledClient,
    answer,
    connecting,
)

EACH = pytest.mark.parametrize("make", [RelayedClient, TunnelledClient])


def commands(received: bytes) -> list[Command | None]:
    return list(map(read_command, ChunkReader().feed(received[HANDSHAKE_BYTES:])))


# --- From the client to its server ---


@EACH
def test_the_handshake_is_answered_at_once_and_the_connect_goes_to_the_routes_server(
    make: Make,
) -> None:
    bench = Bench()
    client = make(bench)
    client.says(C0_C1)
    assert client.received == b"\x03" + (1_000_000).to_bytes(4, "big") + bytes(1532) + C0_C1[1:]
    assert (bench.opened, bench.asked) == (1, [])
    client.says(C2)
    client.says(CONNECT[:50])
    client.says(CONNECT[50:] + b"behind")
    assert bench.asked == [("192.0.2.1", ("live",), "live")]
    server, begin = bench.shakes_hands()
    assert server.received[begin:] == CONNECT + b"behind"
    assert client.session.server == "media:1935"
    assert bench.placed == [("media:1935", 0.0)]


@EACH
def test_after_the_connect_the_session_has_the_servers_transport_itself(make: Make) -> None:
    bench = Bench()
    client = connecting(make, bench)
    server, begin = bench.shakes_hands()
    assert client.way is server
    assert server.protocol is client.side
    assert bench.kept == 0
    client.says(b"up")
    server.says(b"down")
    assert server.received[begin:] == CONNECT + b"up"
    assert client.received[HANDSHAKE_BYTES:] == b"down"


@EACH
def test_the_connect_is_counted_from_its_end_to_the_servers_handshake(make: Make) -> None:
    bench = Bench()
    client = make(bench)
    bench.now += 3.0
    client.says(C0_C1 + C2 + CONNECT)
    bench.now += 0.5
    bench.shakes_hands()
    assert bench.placed == [("media:1935", 0.5)]


@EACH
def test_a_client_with_a_digest_is_shown_to_its_server_with_one(make: Make) -> None:
    bench, player = Bench(), FlashPlayer()
    client = make(bench)
    client.says(player.hello)
    client.says(player.finish(client.received) + CONNECT)
    server = bench.accepts()
    assert find_digest(bytes(server.received[1:]), PLAYER) is not None


@EACH
def test_a_stream_that_is_not_plain_goes_to_a_server_as_it_is(make: Make) -> None:
    other = Route(("other",))
    bench = Bench(*ROUTES, other)
    client = make(bench)
    client.says(b"\x06")
    assert bench.asked == [("192.0.2.1", ("other",), "")]
    client.says(C0_C1)
    server = bench.accepts()
    assert server.received == b"\x06" + C0_C1
    server.says(b"anything")
    assert client.received == b"anything"
    assert client.way is server


@EACH
def test_without_a_matching_application_all_upstreams_are_used(make: Make) -> None:
    bench = Bench()
    connect = ChunkWriter().write(Command("connect", 1.0, {"app": "else?x"}).message())
    connecting(make, bench, connect=connect)
    assert bench.asked == [("192.0.2.1", (), "else")]


@EACH
def test_a_rewritten_connect_and_the_length_of_the_next_message_reach_the_server(
    make: Make,
) -> None:
    rewriting = {"tcUrl": "rtmp://{server}/{app}", "pageUrl": "{host}"}
    bench = Bench(Route(("live",), applications=["live"], rewriting=rewriting))
    client = connecting(make, bench)
    server, _ = bench.shakes_hands()
    assert client.way is not server
    again = CONNECT_MESSAGE.payload
    client.says(b"\xc3" + again[:100])
    client.says(again[100:128] + b"\xc3" + again[128:])
    first, second = commands(bytes(server.received))
    assert first is not None
    assert first.object == {
        "app": "live",
        "tcUrl": "rtmp://media:1935/live",
        "pageUrl": "public",
    }
    assert second == read_command(CONNECT_MESSAGE)
    assert client.way.write == server.write
    client.says(b"\xff untouched")
    assert server.received.endswith(b"\xff untouched")


@EACH
def test_what_cannot_be_translated_ends_the_session(make: Make) -> None:
    bench = Bench(Route(("live",), rewriting={"app": "longer"}))
    client = connecting(make, bench)
    server, _ = bench.shakes_hands()
    client.says(b"\x07\x00\x00\x00\xff\xff\xff\x14" + bytes(4))
    server.turn()
    assert server.aborted
    assert bench.ends


@EACH
def test_observers_can_hold_back_the_connect(make: Make) -> None:
    bench = Bench()
    bench.observe = lambda session: session.hold_upstream(True)
    client = connecting(make, bench)
    server, begin = bench.shakes_hands()
    assert len(server.received) == begin
    client.session.hold_upstream(False)
    server.turn()
    assert server.received[begin:] == CONNECT


# --- Back-pressure ---


@EACH
@pytest.mark.parametrize("room", [float("inf"), 100_000])
def test_a_client_that_sends_much_behind_its_connect_waits_for_its_server(
    make: Make, room: float
) -> None:
    bench, behind = Bench(), bytes(range(256)) * 1000
    client = connecting(make, bench, behind)
    assert not client.reads
    server, begin = bench.shakes_hands(room)
    assert client.reads is (room == float("inf"))
    while len(server.received) < begin + len(CONNECT) + len(behind):
        server.reads(50_000)
    assert client.reads
    assert server.received[begin:] == CONNECT + behind
    assert client.way is server
    client.says(b"more")
    server.reads()
    assert server.received[begin:] == CONNECT + behind + b"more"


def test_a_server_that_takes_nothing_can_talk_to_its_client() -> None:
    bench = Bench()
    client = connecting(RelayedClient, bench, bytes(300_000))
    server, _ = bench.shakes_hands(room=100_000)
    server.says(b"words")
    assert client.received[HANDSHAKE_BYTES:] == b"words"


# --- Ends ---


def rejection(client: Any) -> Command | None:
    (command,) = commands(client.received)
    return command


@EACH
def test_a_client_without_a_server_gets_an_error_for_its_connect_and_then_the_end(
    make: Make,
) -> None:
    bench = Bench()
    client = connecting(make, bench)
    session = client.session
    bench.refuses()
    received = client.received
    bench.turn()
    assert client.received == received
    command = rejection(client)
    assert command is not None
    assert (command.name, command.transaction, command.object) == ("_error", 1.0, None)
    assert command.argument(0) == {
        "level": "error",
        "code": "NetConnection.Connect.Failed",
        "description": "No media server is available.",
    }
    assert bench.ends == [EndReason.UPSTREAM_UNAVAILABLE]
    assert [type(error) for error in bench.refused] == [UpstreamUnavailable]
    assert session.server == ""
    assert (bench.placed, bench.kept, bench.admission.living) == ([], 0, 0)


def test_the_error_is_sent_before_a_relays_connection_closes() -> None:
    bench = Bench()
    client = connecting(RelayedClient, bench)
    bench.refuses()
    bench.turn()
    client.line.turn()
    assert client.line.ended
    assert not client.line.aborted


@EACH
def test_a_client_that_sends_no_connect_is_abandoned(make: Make) -> None:
    bench = Bench()
    client = make(bench)
    client.says(C0_C1 + C2)
    bench.passes(LIMITS.unused_session_s - 0.1)
    assert bench.ends == []
    bench.passes(0.2)
    assert bench.ends == [EndReason.ABANDONED]
    bench.turn()
    assert (bench.kept, bench.admission.living) == (0, 0)


@EACH
def test_a_client_whose_connect_is_malformed_is_abandoned(make: Make) -> None:
    bench = Bench()
    client = make(bench)
    client.says(C0_C1 + C2 + b"\xff" * 100)
    client.says(b"more")
    bench.turn()
    assert bench.ends == [EndReason.ABANDONED]
    assert bench.asked == []


@EACH
def test_a_server_must_complete_its_handshake_in_time(make: Make) -> None:
    bench = Bench()
    client = connecting(make, bench)
    server = bench.accepts()
    server.says(b"\x03" + bytes(3000))
    bench.passes(LIMITS.upstream_connect_s + 0.1)
    assert rejection(client) is not None
    assert bench.ends == [EndReason.UPSTREAM_UNAVAILABLE]
    server.turn()
    assert server.closed


@EACH
@pytest.mark.parametrize("does", ["closes", "speaks otherwise"])
def test_a_server_that_makes_no_handshake_is_no_server(make: Make, does: str) -> None:
    bench = Bench()
    client = connecting(make, bench)
    server = bench.accepts()
    if does == "closes":
        server.resets()
    else:
        server.says(b"HTTP/1.1 400 Bad Request")
    bench.turn()
    assert rejection(client) is not None
    assert bench.ends == [EndReason.UPSTREAM_UNAVAILABLE]


@EACH
@pytest.mark.parametrize("does", ["closes", "speaks otherwise", "says nothing"])
def test_the_next_server_is_tried_after_one_that_makes_no_handshake(make: Make, does: str) -> None:
    bench = Bench()
    bench.servers = 2
    client = connecting(make, bench, b"behind")
    first = bench.accepts()
    if does == "closes":
        first.resets()
    elif does == "speaks otherwise":
        first.says(b"HTTP/1.1 400 Bad Request")
    else:
        bench.passes(LIMITS.upstream_connect_s + 0.1)
    first.turn()
    bench.turn()
    assert first.closed
    server, begin = bench.shakes_hands()
    bench.turn()
    assert server.received[begin:] == CONNECT + b"behind"
    server.says(b"answer")
    assert client.received[HANDSHAKE_BYTES:] == b"answer"
    assert (len(bench.failures), bench.ends, bench.refused) == (1, [], [])


@EACH
@pytest.mark.parametrize("accepts", ["", "before", "with its handshake"])
def test_a_client_that_leaves_before_its_server_is_ready_leaves_nothing(
    make: Make, accepts: str
) -> None:
    bench = Bench()
    client = make(bench)
    client.says(C0_C1)
    client.says(C2 + CONNECT)
    server = bench.accepts() if accepts == "before" else None
    client.session.dismiss(EndReason.ENDED_BY_OPERATOR)
    bench.turn()
    server = server or bench.accepts(with_handshake=bool(accepts))
    bench.passes(LIMITS.upstream_connect_s + 0.1)
    bench.turn()
    server.turn()
    assert server.closed
    assert bench.ends == [EndReason.ENDED_BY_OPERATOR]
    assert (bench.placed, bench.kept, bench.refused) == ([], 0, [])


@EACH
def test_the_server_can_close_right_after_its_handshake(make: Make) -> None:
    bench = Bench()
    client = connecting(make, bench)
    protocol, dial = bench.dials.pop(0)
    server = Line().connect(protocol)
    answer(server, b"words")
    server.resets()
    dial.callback("media:1935")
    assert client.received[HANDSHAKE_BYTES:] == b"words"
    assert bench.ends == [EndReason.UPSTREAM_LOST]


def test_a_relayed_client_that_half_closes_is_half_closed_at_its_server() -> None:
    bench = Bench()
    client = connecting(RelayedClient, bench)
    client.line.ends()
    server, begin = bench.shakes_hands()
    server.turn()
    assert server.received[begin:] == CONNECT
    assert server.ended
    server.says(b"answer")
    assert client.received[HANDSHAKE_BYTES:] == b"answer"


def test_a_relayed_client_that_half_closes_before_its_connect_is_gone() -> None:
    bench = Bench()
    client = RelayedClient(bench)
    client.says(C0_C1)
    client.line.ends()
    bench.turn()
    assert bench.ends == [EndReason.CLIENT_CLOSED]


def test_a_tunnels_client_that_closes_behind_its_connect_is_heard_by_its_server() -> None:
    bench = Bench()
    client = connecting(TunnelledClient, bench, b"last words")
    client.leaves()
    server, begin = bench.shakes_hands()
    server.turn()
    assert server.received[begin:] == CONNECT + b"last words"
    assert server.ended
    assert bench.ends == [EndReason.CLIENT_CLOSED]


@EACH
def test_a_fault_in_the_connect_ends_the_session(make: Make) -> None:
    bench = Bench()
    connecting(make, bench)
    _, dial = bench.dials.pop(0)
    with logged() as lines:
        dial.errback(ZeroDivisionError())
    assert lines[0].startswith("critical: The connection of a session to its server failed")
    assert bench.ends == [EndReason.FAULT]
