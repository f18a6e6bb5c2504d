"""A session and its upstream connection: data in both directions, back-pressure, ends."""

from __future__ import annotations

import pytest

from gateway.protocols.commands import Kind
from gateway.protocols.limits import Limits
from gateway.protocols.reasons import EndReason
from gateway.protocols.session import Session
from gateway.tunnels.tunnel import Tunnel
from tests.helpers.session_recording import Reply
from tests.tunnels.upstream import UpstreamTransport

LIMITS = Limits(answer_bytes=4096, down_buffer_bytes=8192)


class Joined:
    """A tunnel on an upstream transport; ``ends`` has the reported reasons of its end."""

    def __init__(self) -> None:
        self.now = 50.0
        self.ends: list[tuple[Tunnel, EndReason]] = []
        self.tunnel = Tunnel(
            b"secret",
            "alias",
            "192.0.2.1",
            None,  # type: ignore[arg-type]
            lambda: self.now,
            lambda tunnel, reason: self.ends.append((tunnel, reason)),
        )
        self.session = Session(LIMITS, self.tunnel, 0.25, self.now)
        self.tunnel.session = self.session
        self.transport = UpstreamTransport(self.tunnel)
        self.tunnel.makeConnection(self.transport)

    def send(self, number: int, body: bytes) -> bytes | None:
        return self.session.receive(Kind.SEND, number, body, self.now)

    def idle(self, number: int) -> bytes | None:
        return self.session.receive(Kind.IDLE, number, b"", self.now, False)


@pytest.fixture
def joined() -> Joined:
    return Joined()


def test_bytes_pass_unchanged_in_both_directions(joined: Joined) -> None:
    every = bytes(range(256))
    assert joined.send(0, every) == b"\x01"
    assert joined.transport.value() == every
    joined.transport.say(every)
    assert joined.idle(1) == b"\x01" + every


class Inverter:
    """In place of an RTMPE termination: it changes every byte."""

    is_plain = False

    def up(self, data: bytes) -> bytes:
        return bytes(255 - octet for octet in data)

    def down(self, data: bytes) -> tuple[bytes, bytes]:
        return self.up(data), b""


def test_a_termination_changes_all_later_bytes_also_behind_plain_ones(joined: Joined) -> None:
    joined.send(0, b"plain")
    joined.transport.say(b"plain too")
    joined.idle(1)
    joined.tunnel.termination = Inverter()  # type: ignore[assignment]
    joined.send(2, b"\0")
    joined.transport.say(b"\1")
    assert joined.transport.value() == b"plain\xff"
    assert joined.idle(3) == b"\x01\xfe"


def test_the_tunnel_is_the_transports_streaming_producer(joined: Joined) -> None:
    assert joined.transport.producer is joined.tunnel
    assert joined.transport.streaming is True


def test_a_tunnel_uses_the_time_of_its_clock(joined: Joined) -> None:
    assert joined.tunnel.opened_at == 50.0
    joined.session.receive(Kind.IDLE, 0, b"", joined.now)
    reply = Reply()
    joined.session.wait(0, reply, joined.now)
    joined.now = 60.0
    joined.transport.say(b"words")
    assert reply.body == b"\x01words"
    assert joined.session.deadline == 60.0 + LIMITS.silent_session_s


def test_a_full_transport_withholds_answers_until_the_transport_is_empty(joined: Joined) -> None:
    joined.transport.high_water_bytes = 10
    assert joined.send(0, bytes(10)) == b"\x01"
    assert joined.send(1, b"1") is None
    reply = Reply()
    joined.session.wait(1, reply, joined.now)
    assert joined.tunnel.unsent == 11
    joined.now += 1
    joined.transport.drain()
    assert reply.body == b"\x01"
    assert joined.tunnel.unsent == 0
    assert joined.session.deadline == joined.now + LIMITS.silent_session_s


def test_a_session_whose_client_does_not_poll_stops_reading_and_resumes_later(
    joined: Joined,
) -> None:
    joined.transport.say(bytes(4096))
    assert joined.transport.producerState == "paused"
    joined.idle(0)
    assert joined.transport.producerState == "producing"


@pytest.mark.parametrize(
    ("clean", "reason"), [(True, EndReason.UPSTREAM_CLOSED), (False, EndReason.UPSTREAM_LOST)]
)
def test_the_upstreams_end_ends_the_session_after_its_last_data(
    joined: Joined, clean: bool, reason: EndReason
) -> None:
    joined.transport.say(b"last words")
    joined.transport.hang_up(clean)
    assert joined.ends == []
    assert joined.send(0, b"late") == b"\x01last words"
    assert joined.ends == [(joined.tunnel, reason)]
    assert joined.transport.value() == b""


def test_a_session_whose_upstream_is_lost_does_not_use_the_transport(joined: Joined) -> None:
    joined.transport.say(bytes(4096))
    joined.transport.hang_up()
    joined.idle(0)
    joined.idle(1)
    assert joined.ends == [(joined.tunnel, EndReason.UPSTREAM_CLOSED)]
    assert joined.tunnel.unsent == 0
    assert joined.transport.producerState == "paused"
    assert not joined.transport.disconnecting


def test_data_sent_before_a_close_reaches_the_upstream(joined: Joined) -> None:
    joined.transport.high_water_bytes = 100
    joined.send(0, bytes(50))
    joined.transport.pauseProducing()
    joined.session.close(joined.now)
    assert joined.transport.write_closed
    assert joined.transport.producerState == "producing"
    assert not joined.transport.disconnecting
    assert not joined.transport.disconnected
    assert joined.transport.producer is None
    assert joined.ends == [(joined.tunnel, EndReason.CLIENT_CLOSED)]


@pytest.mark.parametrize(
    "reason", [reason for reason in EndReason if reason is not EndReason.CLIENT_CLOSED]
)
def test_an_end_for_another_reason_aborts_the_upstream_connection_at_once(
    joined: Joined, reason: EndReason
) -> None:
    joined.session.end(reason, joined.now)
    assert joined.transport.disconnected
    assert joined.transport.producer is None
    assert joined.ends == [(joined.tunnel, reason)]


@pytest.mark.parametrize(
    "reason", [EndReason.CLIENT_SILENT, EndReason.SEQUENCE_GAP, EndReason.WINDOW_FULL]
)
def test_data_of_a_lost_client_is_still_sent_upstream(joined: Joined, reason: EndReason) -> None:
    joined.transport.high_water_bytes = 100
    joined.send(0, bytes(50))
    joined.session.end(reason, joined.now)
    assert joined.transport.write_closed
    assert not joined.transport.disconnected


def test_still_takes_is_true_only_if_the_upstream_has_read_since_the_last_call(
    joined: Joined,
) -> None:
    joined.transport.high_water_bytes = 10_000
    joined.send(0, bytes(5000))
    joined.session.close(joined.now)
    assert not joined.tunnel.still_takes(2.0)
    joined.transport.unsent -= 1000
    assert joined.tunnel.still_takes(2.0)
    assert not joined.tunnel.still_takes(2.0)
    joined.transport.unsent = 0
    assert not joined.tunnel.still_takes(2.0)


def test_the_loss_of_the_connection_after_an_end_is_not_reported_as_a_second_end(
    joined: Joined,
) -> None:
    joined.session.end(EndReason.CLIENT_SILENT, joined.now)
    joined.transport.hang_up(clean=False)
    assert joined.ends == [(joined.tunnel, EndReason.CLIENT_SILENT)]


def test_upstream_data_after_the_end_is_discarded(joined: Joined) -> None:
    joined.session.close(joined.now)
    for _ in range(100):
        joined.transport.say(bytes(1000))
    assert joined.transport.producerState == "producing"
    assert joined.session.ended is EndReason.CLIENT_CLOSED
