"""Local programs' streams through the client: the race, the relay, and what a program and the log get."""

from __future__ import annotations

import pytest

from gateway.client import local_connection, sessions
from gateway.client.proxied_ways import ProxiedWay
from gateway.http_proxies import Proxies, parse_proxy
from gateway.port_test.ways import Protocol, parse_way
from gateway.protocols.way_memory import Remembered
from tests.client.stage import AGENT, ANSWER, HELLO, Recorder, Server, Stage, TunnelServer, answers
from tests.helpers.logged import logged

MORE = b"more"


def silent() -> Server:
    """Accepts, and answers nothing."""
    return Server()


def test_a_stream_is_relayed_both_ways_with_every_byte_once(stage: Stage) -> None:
    server = Server(answers())
    stage.start(stage.way("rtmp", server))
    program = stage.program()
    stage.until(lambda: len(program.received) == len(ANSWER))
    program.wire.write(MORE)
    (connection,) = server.connections
    stage.until(lambda: connection.received.endswith(MORE))
    connection.wire.write(MORE[::-1])
    stage.until(lambda: program.received.endswith(MORE[::-1]))
    assert connection.received == HELLO + MORE
    assert program.received == ANSWER + MORE[::-1]


def test_a_handshake_in_pieces_arrives_whole(stage: Stage) -> None:
    server = Server(answers())
    stage.start(stage.way("rtmp", server))
    program = stage.program(HELLO[:1])
    stage.until(lambda: server.connections and server.connections[0].received)
    program.wire.write(HELLO[1:])
    stage.until(lambda: program.received == ANSWER)
    assert server.connections[0].received == HELLO


def test_every_way_gets_the_handshake_and_only_the_winner_what_follows_it(stage: Stage) -> None:
    first, second = silent(), Server(answers())
    stage.start(stage.way("rtmp", first), stage.way("rtmp", second))
    program = stage.program(HELLO + MORE)
    stage.until(lambda: first.connections and first.connections[0].received)
    program.wire.write(MORE)
    stage.until(lambda: program.received == ANSWER)
    stage.until(lambda: second.connections[0].received == HELLO + MORE + MORE)
    stage.until(lambda: first.connections[0].is_lost)
    assert first.connections[0].received == HELLO


def test_if_a_way_is_refused_the_next_one_carries_the_stream(stage: Stage) -> None:
    dead, way = stage.dead_way("rtmp"), stage.way("rtmp", Server(answers()))
    with logged() as lines:
        stage.start(dead, way)
        program = stage.program()
        stage.until(lambda: program.received == ANSWER)
    (line,) = [line for line in lines if "goes by" in line]
    assert f"goes by {way}" in line
    assert f"not by {dead}: refused: nothing listens" in line
    assert stage.count("rtmpt_client_races_total", way=str(dead), result="failed") == 1
    assert stage.count("rtmpt_client_races_total", way=str(way), result="won") == 1


def test_a_way_without_an_answer_is_given_up_when_another_one_answers(stage: Stage) -> None:
    server = silent()
    stage.start(stage.way("rtmp", server), stage.way("rtmp", Server(answers())))
    program = stage.program()
    stage.until(lambda: program.received == ANSWER)
    stage.until(lambda: server.connections[0].is_lost)
    assert server.connections[0].received == HELLO


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "the port answers but speaks HTTP only"),
        (b"\x15\x03\x01\x00\x02\x02\x0a", "the port speaks TLS"),
        (b"SSH-2.0-x\r\n", "does not speak RTMP (its first byte is 83)"),
    ],
)
def test_a_server_of_another_protocol_is_named_and_the_next_way_is_tried(
    stage: Stage, answer: bytes, sentence: str
) -> None:
    other = Server(answers(answer))
    with logged() as lines:
        stage.start(stage.way("rtmp", other), stage.way("rtmp", Server(answers())))
        program = stage.program()
        stage.until(lambda: program.received == ANSWER)
    assert any(sentence in line for line in lines)
    stage.until(lambda: other.connections[0].is_lost)


def test_a_server_that_closes_is_named(stage: Stage) -> None:
    closing = Server(lambda it: it.wire.loseConnection())
    with logged() as lines:
        stage.start(stage.way("rtmp", closing))
        program = stage.program()
        stage.until(lambda: program.is_lost)
    assert any("closed after the first bytes" in line for line in lines)


# --- Tunnels ---


def test_a_server_that_closes_without_an_answer_to_open_is_named(stage: Stage) -> None:
    closing = Server(lambda it: it.wire.loseConnection())
    with logged() as lines:
        stage.start(stage.way("rtmpt", closing))
        program = stage.program()
        stage.until(lambda: program.is_lost)
    (line,) = [line for line in lines if "no way" in line]
    assert "closed after the first bytes: a filter that inspects the protocol, or no RTMPT" in line


def test_a_tunnel_carries_the_stream_under_the_name_of_the_client(stage: Stage) -> None:
    server = TunnelServer()
    stage.start(stage.way("rtmpt", server))
    program = stage.program()
    stage.until(lambda: program.received == ANSWER)
    assert server.commands[:2] == ["open/1", "send/ID/0"]
    assert f"User-Agent: {AGENT}\r\n".encode() in server.heads[0]


def test_a_tunnel_that_loses_the_race_is_closed(stage: Stage) -> None:
    server = TunnelServer()
    # The handshake is sent, but not answered.
    server.answer = b""
    stage.start(stage.way("rtmpt", server), stage.way("rtmp", Server(answers())))
    program = stage.program()
    stage.until(lambda: program.received == ANSWER)
    stage.until(lambda: "close/ID" in server.commands)
    stage.until(lambda: server.connections[0].is_lost)


def test_a_tunnel_whose_open_is_answered_after_the_race_is_closed(stage: Stage) -> None:
    server = TunnelServer(opens=False)
    stage.start(stage.way("rtmpt", server), stage.way("rtmp", Server(answers())))
    program = stage.program()
    stage.until(lambda: program.received == ANSWER)
    assert server.commands == ["open/1"]
    server.say(server.connections[0], b"ID\n")
    stage.until(lambda: server.commands == ["open/1", "close/ID"])
    stage.until(lambda: server.connections[0].is_lost)


def test_a_refused_open_is_named_by_its_status(stage: Stage) -> None:
    refusing = Server(
        lambda it: it.wire.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    )
    with logged() as lines:
        stage.start(stage.way("rtmpt", refusing))
        program = stage.program()
        stage.until(lambda: program.is_lost)
    assert any("open gets 403: a filter between forbids it" in line for line in lines)


# --- Refusals ---


def test_if_no_way_gets_through_the_program_is_closed_and_the_log_says_why(stage: Stage) -> None:
    ways = (
        stage.dead_way("rtmp"),
        stage.way("rtmpt", Server(lambda it: it.wire.write(b"220 x\r\n\r\n"))),
    )
    with logged() as lines:
        stage.start(*ways)
        program = stage.program()
        stage.until(lambda: program.is_lost)
    (line,) = [line for line in lines if "no way" in line]
    assert line.startswith("warn: no way to 127.0.0.1 gets through: ")
    assert f"{ways[0]}: refused: nothing listens on port {ways[0].port}" in line
    assert f"{ways[1]}: no tunnel is opened: its answer is not one of HTTP" in line
    assert program.received == b""
    assert stage.count("rtmpt_client_refused_connections_total", cause="no_way") == 1


@pytest.mark.parametrize("protocol", ["rtmp", "rtmps", "rtmpt", "rtmpts"])
def test_a_way_whose_packets_are_dropped_is_named(stage: Stage, protocol: str) -> None:
    full = stage.network.silent_server()
    with logged() as lines:
        stage.start(parse_way(f"{protocol}:{full.port}"), timeout_s=0.2)
        program = stage.program()
        stage.until(lambda: program.is_lost)
    assert any("packets vanish" in line for line in lines)


@pytest.mark.parametrize(
    ("protocol", "cause"),
    [
        ("rtmp", "the port opens but RTMP gets no answer"),
        ("rtmps", "the port opens but TLS gets no answer"),
        ("rtmpt", "the port opens but HTTP gets no answer"),
        ("rtmpts", "the port opens but TLS gets no answer"),
    ],
)
def test_a_silent_server_is_named_by_the_step_that_it_does_not_answer(
    stage: Stage, protocol: str, cause: str
) -> None:
    with logged() as lines:
        stage.start(stage.way(protocol, silent()), timeout_s=0.2)
        program = stage.program()
        stage.until(lambda: program.is_lost)
    assert any(cause in line for line in lines)


def test_after_the_time_out_the_program_is_closed(stage: Stage) -> None:
    server = silent()
    with logged() as lines:
        stage.start(stage.way("rtmp", server), timeout_s=0.1)
        program = stage.program()
        stage.until(lambda: program.is_lost)
    assert any("the port opens but RTMP gets no answer" in line for line in lines)
    stage.until(lambda: server.connections[0].is_lost)


def test_an_unknown_name_is_a_failure_of_every_way(stage: Stage) -> None:
    with logged() as lines:
        stage.start(parse_way("rtmp:1"), host="no.example")
        program = stage.program()
        stage.until(lambda: program.is_lost)
    assert any("the name is unknown" in line for line in lines)


def test_the_unknown_name_of_a_proxy_is_that_of_the_proxy(stage: Stage) -> None:
    way = ProxiedWay(Protocol.RTMPT, 1)
    proxy = parse_proxy("http://no.example:8080")
    with logged() as lines:
        stage.start(way, proxies=Proxies(proxy, proxy))
        program = stage.program()
        stage.until(lambda: program.is_lost)
    assert any(f"{way}: the proxy's name is unknown" in line for line in lines)


def test_a_cause_that_several_ways_have_is_written_once(stage: Stage) -> None:
    with logged() as lines:
        stage.start(parse_way("rtmp:1"), parse_way("rtmpt:2"), host="no.example")
        program = stage.program()
        stage.until(lambda: program.is_lost)
    (line,) = [line for line in lines if "no way" in line]
    assert "through: rtmp:1, rtmpt:2: the name is unknown" in line
    assert line.count("the name is unknown") == 1


def test_the_command_in_the_log_has_an_ipv6_address_in_brackets(stage: Stage) -> None:
    with logged() as lines:
        stage.start(parse_way("rtmp:1"), host="::1", timeout_s=0.1)
        program = stage.program()
        stage.until(lambda: program.is_lost)
    (line,) = [line for line in lines if "no way" in line]
    assert line.startswith("warn: no way to [::1] gets through: ")
    assert line.endswith("; rtmpt-port-test [::1] shows more")


def test_a_name_that_is_no_longer_resolved_keeps_its_addresses(stage: Stage) -> None:
    server = Server(answers())
    stage.names["a.example"] = ["127.0.0.1"]
    stage.start(stage.way("rtmp", server), host="a.example")
    first = stage.program()
    stage.until(lambda: first.received == ANSWER)
    del stage.names["a.example"]
    second = stage.program()
    stage.until(lambda: second.received == ANSWER)


@pytest.mark.parametrize(
    ("hello", "hint"),
    [
        (b"POST /open/1 HTTP/1.1\r\n", "use rtmp://, not rtmpt://"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "use rtmp://, not rtmps://"),
        (b"\x00\x00\x00\x00\x00\x00", "does not speak RTMP"),
    ],
)
def test_a_program_of_another_protocol_is_closed_before_any_way_is_tried(
    stage: Stage, hello: bytes, hint: str
) -> None:
    server = Server(answers())
    with logged() as lines:
        stage.start(stage.way("rtmp", server))
        program = stage.program(hello)
        stage.until(lambda: program.is_lost)
    assert any(hint in line for line in lines)
    assert server.connections == []


def test_connections_over_the_limit_are_closed(stage: Stage) -> None:
    stage.start(stage.way("rtmp", Server(answers())), most_connections=1)
    first = stage.program()
    stage.until(lambda: first.received == ANSWER)
    second = stage.program()
    stage.until(lambda: second.is_lost)
    assert stage.count("rtmpt_client_refused_connections_total", cause="limit") == 1
    first.wire.loseConnection()
    stage.until(lambda: stage.count("rtmpt_client_streams") == 0)


def test_a_program_that_does_not_wait_is_not_read_without_end(stage: Stage) -> None:
    slow = Server()
    stage.start(stage.way("rtmp", slow))
    sent = HELLO + bytes(4 * 1024 * 1024)
    program = stage.program(sent)
    stage.until(lambda: slow.connections and slow.connections[0].received == HELLO)
    for _ in range(20):
        stage.network.reactor.iterate(0.01)
    assert stage.sessions is not None
    (waiting,) = stage.sessions._waiting
    # One read more than the limit.
    assert 64 * 1024 < len(waiting.hello) <= 2 * 64 * 1024
    (connection,) = slow.connections
    connection.wire.write(ANSWER)
    stage.until(lambda: program.received == ANSWER)
    stage.until(lambda: len(connection.received) == len(sent))
    assert connection.received == sent


def test_a_program_that_sends_nothing_is_closed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_connection, "_FIRST_BYTES_S", 0.05)
    stage.start(stage.way("rtmp", Server(answers())))
    program = stage.program(b"")
    stage.until(lambda: program.is_lost)


def test_a_program_that_leaves_during_the_race_ends_its_attempts(stage: Stage) -> None:
    server, tunnel = silent(), TunnelServer()
    tunnel.answer = b""
    stage.start(stage.way("rtmp", server), stage.way("rtmpt", tunnel))
    program = stage.program()
    stage.until(lambda: "send/ID/0" in tunnel.commands)
    program.wire.loseConnection()
    stage.until(lambda: "close/ID" in tunnel.commands and server.connections[0].is_lost)
    assert stage.count("rtmpt_client_waiting_connections") == 0


# --- The memory ---


def remembered(stage: Stage) -> Remembered | None:
    assert stage.sessions is not None
    return stage.sessions.recall()


def test_the_way_that_answered_is_remembered_and_tried_first(stage: Stage) -> None:
    other, server = silent(), Server(answers())
    ways = stage.way("rtmp", other), stage.way("rtmp", server)
    stage.start(*ways)
    first = stage.program()
    stage.until(lambda: first.received == ANSWER)
    kept = remembered(stage)
    assert kept is not None
    assert kept.way == str(ways[1])
    second = stage.program()
    stage.until(lambda: second.received == ANSWER)
    assert len(server.connections) == 2
    assert len(other.connections) == 1


def test_a_remembered_way_that_fails_is_forgotten_and_the_others_follow(stage: Stage) -> None:
    def serve(connection: Recorder) -> None:
        if len(first.connections) > 1:
            connection.wire.loseConnection()
        else:
            answers()(connection)

    first, second = Server(serve), Server(answers())
    ways = stage.way("rtmp", first), stage.way("rtmp", second)
    stage.start(*ways)
    for expected in ways:
        program = stage.program()
        stage.until(lambda program=program: program.received == ANSWER)  # type: ignore[misc]
        kept = remembered(stage)
        assert kept is not None
        assert kept.way == str(expected)


def test_a_way_that_fails_alone_is_forgotten(stage: Stage) -> None:
    server = Server(
        lambda it: answers()(it) if len(server.connections) == 1 else it.wire.loseConnection()
    )
    stage.start(stage.way("rtmp", server))
    first = stage.program()
    stage.until(lambda: first.received == ANSWER)
    second = stage.program()
    stage.until(lambda: second.is_lost)
    assert remembered(stage) is None


# --- The end ---


def test_the_log_has_one_line_for_the_end_of_a_stream(stage: Stage) -> None:
    way = stage.way("rtmp", Server(answers()))
    with logged() as lines:
        stage.start(way)
        program = stage.program()
        stage.until(lambda: program.received == ANSWER)
        program.wire.loseConnection()
        stage.until(lambda: any("ended" in line for line in lines))
    (line,) = [line for line in lines if "ended" in line]
    assert line.startswith(f"info: stream 1 by {way} ended: closed by the local program; ")
    assert "1.5 kB up, 3.1 kB down, 0 reconnects" in line
    labels = {"way": str(way), "direction": "down"}
    assert stage.count("rtmpt_client_ended_streams_bytes_total", **labels) == len(ANSWER)


def test_when_the_gateway_closes_the_program_is_closed(stage: Stage) -> None:
    server = Server(answers())
    stage.start(stage.way("rtmp", server))
    program = stage.program()
    stage.until(lambda: program.received == ANSWER)
    server.connections[0].wire.loseConnection()
    stage.until(lambda: program.is_lost)
    name = "rtmpt_client_ended_streams_total"
    stage.until(lambda: stage.count(name, reason="upstream_closed") == 1)


def test_a_stop_closes_the_programs_and_the_tunnels(stage: Stage) -> None:
    server = TunnelServer()
    stage.start(stage.way("rtmpt", server))
    program = stage.program()
    stage.until(lambda: program.received == ANSWER)
    stopped = stage.stop()
    stage.until(lambda: program.is_lost)
    program.wire.loseConnection()
    stage.until(lambda: stopped)
    assert any(command.startswith("close/ID") for command in server.commands)


def test_a_stop_waits_for_the_opens_that_lost_and_closes_their_sessions(stage: Stage) -> None:
    server, winner = TunnelServer(opens=False), Server(answers())
    stage.start(stage.way("rtmpt", server), stage.way("rtmp", winner))
    program = stage.program()
    stage.until(lambda: program.received == ANSWER)
    program.wire.loseConnection()
    stage.until(lambda: winner.connections[0].is_lost)
    stopped = stage.stop()
    # What is left of the stream ends.
    for _ in range(20):
        stage.network.reactor.iterate(0)
    assert not stopped
    server.say(server.connections[0], b"ID\n")
    stage.until(lambda: stopped)
    stage.until(lambda: server.commands == ["open/1", "close/ID"])


def test_a_stop_gives_up_ways_of_a_race_that_is_not_decided(stage: Stage) -> None:
    server = TunnelServer(opens=False)
    stage.start(stage.way("rtmpt", server))
    program = stage.program()
    stage.until(lambda: server.commands == ["open/1"])
    stopped = stage.stop()
    stage.until(lambda: program.is_lost)
    assert not stopped
    server.say(server.connections[0], b"ID\n")
    stage.until(lambda: stopped)
    stage.until(lambda: server.commands == ["open/1", "close/ID"])


def test_a_stop_does_not_wait_for_an_open_that_is_never_answered(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "_STOP_S", 0.1)
    server = TunnelServer(opens=False)
    stage.start(stage.way("rtmpt", server), timeout_s=60.0)
    program = stage.program()
    stage.until(lambda: server.commands == ["open/1"])
    began_at = stage.network.reactor.seconds()
    stopped = stage.stop()
    stage.until(lambda: program.is_lost and stopped)
    # Much earlier than the client gives an open up by itself.
    assert stage.network.reactor.seconds() - began_at < 5


def test_a_second_signal_ends_the_wait_of_a_stop(stage: Stage) -> None:
    lost, server = TunnelServer(opens=False), Server(answers())
    stage.start(stage.way("rtmpt", lost), stage.way("rtmp", server))
    program = stage.program()
    stage.until(lambda: program.received == ANSWER and lost.commands)
    sessions = stage.sessions
    assert sessions is not None
    stopped = stage.stop()
    assert not stopped
    before = stage.network.reactor.seconds()
    sessions.hurry()
    stage.until(lambda: stopped and program.is_lost)
    assert stage.network.reactor.seconds() - before < 2.0


def test_a_hurry_before_the_stop_ends_no_stream(stage: Stage) -> None:
    server = Server(answers())
    stage.start(stage.way("rtmp", server))
    program = stage.program()
    stage.until(lambda: program.received == ANSWER)
    assert stage.sessions is not None
    stage.sessions.hurry()
    program.wire.write(MORE)
    stage.until(lambda: server.connections[0].received == HELLO + MORE)


def test_the_status_has_the_number_of_streams_and_the_last_way(stage: Stage) -> None:
    way = stage.way("rtmp", Server(answers()))
    stage.start(way)
    assert stage.sessions is not None
    assert stage.sessions.status == "streams: 0"
    program = stage.program()
    stage.until(lambda: program.received == ANSWER)
    assert stage.sessions.status == f"streams: 1, the last one by {way}"
