"""The transports with immediate writes, on real loopback sockets and an epoll reactor.

These tests check Twisted's own behaviour: only the time of the first attempt to send may differ.
They run with every supported version of Twisted, and list the internals that are used.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet import abstract
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from gateway.transport import READ_BYTES, EagerWrites
from tests.helpers.tcp_pairs import (
    MUCH,
    HalfCloseable,
    Pair,
    Producer,
    Speaker,
)
from tests.helpers.turning import Turning

pytest_plugins = ["tests.helpers.tcp_pair_fixtures"]


@pytest.fixture(params=["server", "client"])
def make(request: pytest.FixtureRequest, accept, dial) -> Callable[..., Pair]:
    return accept if request.param == "server" else dial


def pattern(size: int, start: int = 0) -> bytes:
    """Bytes in which a lost, doubled or moved piece is detected."""
    unit = b"".join(number.to_bytes(3, "big") for number in range(start, start + size // 3 + 1))
    return unit[:size]


# --- Bytes ---


def test_a_small_write_is_sent_before_write_returns(make) -> None:
    speaker, peer = make()
    speaker.transport.write(b"hello")
    assert peer.read() == 5
    speaker.transport.write_two(b"head", b"body")
    assert peer.read() == 8
    assert speaker.transport.unsent == 0
    assert speaker.transport not in speaker.transport.reactor.getWriters()


def test_two_large_parts_are_sent_before_write_two_returns(turning: Turning, make) -> None:
    speaker, peer = make()
    speaker.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MUCH)
    parts = pattern(100), pattern(20_000, start=1000)
    speaker.transport.write_two(*parts)
    assert speaker.transport.unsent == 0
    peer.read_until(20_100)
    assert bytes(peer.received) == parts[0] + parts[1]


def test_received_data_equals_sent_data(turning: Turning, make) -> None:
    speaker, peer = make()
    sent = pattern(3 * READ_BYTES)
    left = memoryview(sent)

    def all_received() -> bool:
        nonlocal left
        if left:
            with suppress(BlockingIOError):
                left = left[peer.sock.send(left) :]
        return sum(map(len, speaker.received)) == len(sent)

    turning.until(all_received)
    assert b"".join(speaker.received) == sent
    assert max(map(len, speaker.received)) <= READ_BYTES


def test_all_bytes_arrive_in_order_at_a_slow_reader(make) -> None:
    speaker, peer = make()
    sent = pattern(300_000)
    speaker.transport.write(sent)
    assert 0 < speaker.transport.unsent < len(sent)
    peer.read_until(len(sent), a_time=5000)
    assert bytes(peer.received) == sent
    assert speaker.transport.unsent == 0


def fill_kernel(transport: Any) -> bytes:
    """Fill the kernel's send buffer, and leave the transport's own buffer empty."""
    taken = b""
    with suppress(BlockingIOError):
        while True:
            piece = pattern(3000, start=len(taken))
            taken += piece[: transport.socket.send(piece)]
    assert transport.unsent == 0
    return taken


@pytest.mark.parametrize("room", [0, 1, 50])
@pytest.mark.parametrize("size", [10, 20_000])
def test_partly_accepted_writes_are_completed_later(make, size: int, room: int) -> None:
    speaker, peer = make()
    parts = pattern(100), pattern(size, start=5000)
    before = fill_kernel(speaker.transport)
    if room:
        peer.read(room)
    speaker.transport.write_two(*parts)
    speaker.transport.write(b"last")
    peer.read_until(len(before) + 100 + size + 4)
    assert bytes(peer.received) == before + parts[0] + parts[1] + b"last"


def test_the_unsent_count_shrinks_as_the_kernel_accepts_data(turning: Turning, make) -> None:
    speaker, peer = make()
    transport = speaker.transport
    before = len(fill_kernel(transport))
    transport.write(pattern(300_000))
    # Of a large write, the kernel can still take a few thousand bytes.
    unsent = transport.unsent
    assert 295_000 < unsent <= 300_000

    def some_taken() -> bool:
        peer.read(5000)
        return transport.unsent < unsent

    turning.until(some_taken)
    assert 150_000 < transport.unsent <= before + 300_000 - len(peer.received)


def test_held_writes_are_sent_in_order_once_they_are_released(turning: Turning, make) -> None:
    speaker, peer = make()
    transport = speaker.transport
    transport.write(b"before ")
    transport.hold_writes(True)
    transport.write(b"held ")
    transport.write(b"too ")
    peer.read_until(7)
    assert transport.unsent == 9
    assert bytes(peer.received) == b"before "
    transport.hold_writes(False)
    transport.write(b"after")
    peer.read_until(21)
    assert bytes(peer.received) == b"before held too after"
    assert transport.unsent == 0


def test_a_connection_that_ends_while_writes_are_held_sends_them_first(
    turning: Turning, make
) -> None:
    speaker, peer = make()
    transport = speaker.transport
    transport.hold_writes(True)
    transport.write(b"held")
    transport.loseConnection()
    transport.hold_writes(False)
    peer.read_until(4)
    turning.until(lambda: bool(speaker.lost))
    assert bytes(peer.received) == b"held"


def test_the_kernel_keeps_little_for_a_client_that_does_not_read(accept) -> None:
    speaker, _ = accept(send_buffer=None)
    speaker.transport.write(bytes(16 * MUCH))
    assert 16 * MUCH - speaker.transport.unsent <= MUCH // 2


def test_a_read_without_available_data_does_not_end_the_connection(make) -> None:
    speaker, _ = make()
    assert speaker.transport.doRead() is None
    assert speaker.received == []


_writes = st.lists(
    st.tuples(
        st.sampled_from(["write", "write_two", "read", "turn"]),
        st.one_of(st.integers(0, 100), st.integers(0, 60_000)),
        st.one_of(st.integers(0, 100), st.integers(16_000, 17_000), st.integers(0, 60_000)),
    ),
    max_size=25,
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(writes=_writes, high_water=st.sampled_from([0, 1000, READ_BYTES]))
def test_the_data_of_any_mix_of_writes_arrives_complete_and_in_order(
    turning: Turning, accept, writes, high_water
) -> None:
    speaker, peer = accept()
    transport = speaker.transport
    transport.high_water_bytes = high_water
    producer = Producer(transport)
    sent = b""
    for what, first, second in writes:
        if what == "write":
            transport.write(pattern(first, start=len(sent)))
            sent += pattern(first, start=len(sent))
        elif what == "write_two":
            parts = pattern(first, start=len(sent)), pattern(second, start=len(sent) + first)
            transport.write_two(*parts)
            sent += parts[0] + parts[1]
        elif what == "read":
            peer.read(first + 1)
        else:
            turning.turn()
        assert transport.unsent <= len(sent) - len(peer.received)
        assert transport.unsent <= high_water or producer.told[-1] == "pause"
    peer.read_until(len(sent))
    assert bytes(peer.received) == sent
    turning.until(lambda: not transport.unsent)
    turning.settle()
    assert not producer.told or producer.told[-1] == "resume"
    peer.sock.close()
    turning.until(lambda: speaker.lost)


# --- Back-pressure ---


@pytest.mark.parametrize("high_water", [0, 10_000, 200_000])
def test_a_producer_is_paused_once_and_resumed_once(
    turning: Turning, make, high_water: int
) -> None:
    speaker, peer = make()
    transport = speaker.transport
    transport.high_water_bytes = high_water
    producer = Producer(transport)
    for _ in range(2):
        producer.told.clear()
        size = len(peer.received)
        while transport.unsent <= high_water:
            assert producer.told == []
            transport.write(pattern(30_000))
            size += 30_000
        assert producer.told == ["pause"]
        for _ in range(3):
            transport.write(b"more")
            transport.write_two(b"and", pattern(20_000))
            size += 20_007
        assert producer.told == ["pause"]
        peer.read_until(size)
        turning.until(lambda: not transport.unsent)
        turning.settle()
        assert producer.told == ["pause", "resume"]


def test_a_producer_is_paused_when_unsent_data_exceeds_the_high_water_mark(make) -> None:
    speaker, _ = make()
    speaker.transport.high_water_bytes = 1000
    producer = Producer(speaker.transport)
    fill_kernel(speaker.transport)
    speaker.transport.write(bytes(1000))
    assert producer.told == []
    speaker.transport.write(b"a")
    assert producer.told == ["pause"]


def test_a_high_water_mark_of_0_pauses_the_producer_at_the_first_unsent_byte(make) -> None:
    speaker, _ = make()
    speaker.transport.high_water_bytes = 0
    producer = Producer(speaker.transport)
    while not speaker.transport.unsent:
        assert producer.told == []
        speaker.transport.write(b"a")
    assert speaker.transport.unsent == 1
    assert producer.told == ["pause"]


def test_a_producer_is_not_resumed_before_all_data_is_sent(turning: Turning, make) -> None:
    speaker, peer = make()
    transport = speaker.transport
    transport.high_water_bytes = 0
    producer = Producer(transport)
    transport.write(pattern(MUCH))

    def resumed() -> bool:
        peer.read(20_000)
        assert not transport.unsent or producer.told == ["pause"]
        return producer.told == ["pause", "resume"]

    turning.until(resumed)
    assert not transport.unsent


def test_a_producer_may_write_while_it_is_resumed(turning: Turning, make) -> None:
    speaker, peer = make()
    transport = speaker.transport
    transport.high_water_bytes = 0
    producer = Producer(transport)
    producer.resumeProducing = lambda: transport.write(b"last")  # type: ignore[method-assign]
    transport.write(pattern(100_000))
    peer.read_until(100_004)
    assert bytes(peer.received) == pattern(100_000) + b"last"


def test_no_data_is_received_while_reading_is_stopped(turning: Turning, make) -> None:
    speaker, peer = make()
    speaker.transport.stopReading()
    peer.sock.send(b"hello")
    turning.settle()
    assert speaker.received == []
    speaker.transport.startReading()
    turning.until(lambda: speaker.received)
    assert speaker.received == [b"hello"]


# --- Ends ---


@pytest.mark.parametrize("protocol", [Speaker, HalfCloseable])
def test_a_connection_closed_by_its_peer_is_reported_lost_cleanly_and_once(
    turning: Turning, make, protocol
) -> None:
    speaker, peer = make(protocol)
    peer.sock.send(b"bye")
    peer.sock.shutdown(socket.SHUT_WR)
    if protocol is HalfCloseable:
        turning.until(lambda: speaker.closed)
        assert speaker.closed == ["read"]
        speaker.transport.write(b"answer")
        peer.read_until(6)
        speaker.transport.loseConnection()
    turning.until(lambda: speaker.lost)
    turning.settle()
    assert speaker.received == [b"bye"]
    assert [reason.type for reason in speaker.lost] == [ConnectionDone]


def test_a_half_close_sends_all_data_first_and_reading_continues(turning: Turning, make) -> None:
    speaker, peer = make(HalfCloseable)
    speaker.transport.write(pattern(100_000))
    speaker.transport.loseWriteConnection()
    peer.read_to_the_end()
    assert bytes(peer.received) == pattern(100_000)
    assert speaker.closed == ["write"]
    peer.sock.send(b"still")
    turning.until(lambda: speaker.received)
    assert speaker.received == [b"still"]
    assert speaker.lost == []


@pytest.mark.parametrize("size", [1, 20_000])
def test_a_write_after_a_half_close_is_discarded(turning: Turning, make, size: int) -> None:
    speaker, peer = make()
    speaker.transport.loseWriteConnection()
    peer.read_to_the_end()
    speaker.transport.write(b"a" * size)
    speaker.transport.write_two(b"head", b"a" * size)
    turning.settle()
    assert bytes(peer.received) == b""
    assert speaker.lost == []
    assert speaker.transport.unsent == 0


def test_a_close_sends_all_data_first(turning: Turning, make) -> None:
    speaker, peer = make()
    speaker.transport.write(pattern(100_000))
    speaker.transport.loseConnection()
    peer.read_to_the_end()
    assert bytes(peer.received) == pattern(100_000)
    turning.until(lambda: speaker.lost)
    assert [reason.type for reason in speaker.lost] == [ConnectionDone]


@pytest.mark.parametrize("size", [10, 20_000, MUCH])
def test_a_loss_during_a_write_is_reported_once_from_the_reactor(
    turning: Turning, make, size: int
) -> None:
    speaker, peer = make()
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.sock.close()
    for _ in range(3):
        speaker.transport.write(b"a" * size)
        speaker.transport.write_two(b"head", b"a" * size)
    assert speaker.lost == []
    turning.until(lambda: speaker.lost)
    turning.settle()
    assert len(speaker.lost) == 1
    assert speaker.lost[0].check(ConnectionLost, ConnectionDone)


def test_data_before_a_failed_write_is_received(turning: Turning, make) -> None:
    speaker, peer = make()
    speaker.transport.stopReading()
    sent = pattern(100_000)
    sent = sent[: peer.sock.send(sent)]
    peer.sock.close()
    while not speaker.lost:
        speaker.transport.write(b"a")
        turning.turn()
    assert b"".join(speaker.received) == sent
    assert len(speaker.lost) == 1


@pytest.mark.parametrize("ends", ["abortConnection", "loseConnection"])
def test_a_closed_connection_reports_no_more_events(turning: Turning, make, ends: str) -> None:
    speaker, peer = make()
    speaker.transport.stopReading()
    peer.sock.send(b"unread")
    getattr(speaker.transport, ends)()
    turning.until(lambda: speaker.lost)
    assert speaker.received == []


def test_an_exception_while_the_last_data_is_received_is_logged_and_the_loss_is_reported(
    turning: Turning, make, errors: list[Failure]
) -> None:
    speaker, peer = make()
    speaker.transport.stopReading()
    peer.sock.send(b"last words")
    peer.sock.close()

    def fail(data: bytes) -> None:
        raise RuntimeError("on purpose")

    speaker.on_data = fail
    while not speaker.lost:
        speaker.transport.write(b"a")
        turning.turn()
    assert errors.pop().check(RuntimeError)


@pytest.mark.parametrize("size", [0, 1, 20_000])
def test_calls_after_the_loss_of_a_connection_have_no_effect(
    turning: Turning, make, size: int
) -> None:
    speaker, peer = make()
    transport = speaker.transport
    peer.sock.close()
    turning.until(lambda: speaker.lost)
    transport.write(b"a" * size)
    transport.write_two(b"head", b"a" * size)
    transport.abortConnection()
    transport.loseConnection()
    assert transport.unsent == 0
    turning.settle()
    assert len(speaker.lost) == 1


def test_an_acknowledgement_after_the_loss_of_a_connection_has_no_effect(
    turning: Turning, make
) -> None:
    speaker, peer = make()
    transport = speaker.transport
    peer.sock.close()
    turning.until(lambda: speaker.lost)
    transport.acknowledge_now()


def test_marking_the_application_as_idle_sends_no_data(turning: Turning, make) -> None:
    speaker, peer = make()
    speaker.transport.mark_idle()
    speaker.transport.write(b"data")
    speaker.transport.mark_idle()
    peer.read_until(4)
    turning.settle()
    peer.read()
    assert bytes(peer.received) == b"data"
    peer.sock.close()
    turning.until(lambda: speaker.lost)
    speaker.transport.mark_idle()


def test_a_write_after_an_abort_sends_no_data(turning: Turning, make) -> None:
    speaker, peer = make()
    speaker.transport.abortConnection()
    speaker.transport.write(b"more")
    speaker.transport.write_two(b"and", b"a" * 20_000)
    peer.read_to_the_end()
    assert bytes(peer.received) == b""
    turning.until(lambda: speaker.lost)
    assert len(speaker.lost) == 1


def test_small_packets_are_not_delayed(make) -> None:
    speaker, _ = make()
    assert speaker.transport.getTcpNoDelay()


def test_received_data_is_acknowledged_immediately(make) -> None:
    speaker, _ = make()
    transport = speaker.transport
    transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
    transport.acknowledge_now()
    assert transport.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK) == 1


@pytest.mark.parametrize("reads", [True, False])
def test_a_connection_that_is_given_away_lives_on_elsewhere(
    turning: Turning, accept, reads: bool
) -> None:
    speaker, peer = accept()
    transport = speaker.transport
    elsewhere = socket.socket(fileno=os.dup(transport.fileno()))
    if not reads:
        transport.stopReading()
    transport.give_away()
    peer.sock.sendall(b"to the other process")
    turning.settle()
    # The reactor does not watch the descriptor any more, and nothing was sent to the peer.
    assert transport not in turning.reactor.getReaders()
    assert turning.reactor._poller.poll(0) == []
    assert (speaker.received, speaker.lost) == ([], [])
    assert (peer.read(), peer.ended) == (0, False)
    assert elsewhere.recv(100) == b"to the other process"
    elsewhere.sendall(b"answer")
    peer.read_until(len(b"answer"))
    # No call has an effect, as after the loss of a connection.
    transport.write(b"late")
    transport.abortConnection()
    transport.loseConnection()
    turning.settle()
    elsewhere.close()
    peer.read_to_the_end()
    assert bytes(peer.received) == b"answer"
    assert speaker.lost == []


# --- Twisted from inside ---


@pytest.mark.parametrize(
    "name",
    [
        *("dataBuffer", "offset", "connected", "disconnected", "disconnecting"),
        "_writeDisconnecting",
    ],
)
def test_the_used_internals_of_descriptors_exist(name: str) -> None:
    assert hasattr(abstract.FileDescriptor, name)


def test_the_used_internals_of_connections_exist(make) -> None:
    speaker, _ = make()
    transport = speaker.transport
    assert (transport.dataBuffer, transport.offset) == (b"", 0)
    assert (transport._tempDataBuffer, transport._tempDataLen) == ([], 0)
    assert isinstance(transport.socket, socket.socket)
    assert transport.protocol is speaker


def test_twisted_calls_the_overridden_method() -> None:
    """An override that is no longer called has no effect, and other tests may not detect this."""
    assert "_isSendBufferFull" in abstract.FileDescriptor._maybePauseProducer.__code__.co_names
    assert EagerWrites._isSendBufferFull is not abstract.FileDescriptor._isSendBufferFull
