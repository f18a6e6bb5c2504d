"""The passive reader changes and delays no byte, and is discarded when it has finished."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.limits import Limits
from gateway.telemetry.sessions import Sessions
from gateway.tunnels.admission import Admission
from gateway.tunnels.relay import Relay
from gateway.tunnels.relay_connection import RelayConnection
from gateway.tunnels.relay_table import RelayTable
from tests.helpers.line import Line
from tests.helpers.own_count import OwnCount
from tests.protocols.rtmp.test_passive import conversation
from tests.telemetry.test_truth import EndToEnd
from tests.tunnels.test_relay import Waiting

# Whole conversations, invalid data after a valid handshake, RTMPE, and invalid data only.
STREAMS = st.one_of(
    st.just(conversation()),
    st.binary(min_size=1, max_size=400).map(lambda rest: conversation("play") + rest),
    st.binary(min_size=1, max_size=400).map(lambda rest: b"\x03" + bytes(1535) + rest),
    st.sampled_from([b"\x06", b"\x08"]).map(lambda first: first + bytes(1535)),
    st.binary(min_size=1, max_size=400),
)
BOTH = pytest.mark.parametrize("media", [False, True])


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def answers(end: EndToEnd) -> bytes:
    """The bodies of the answers, without their interval bytes."""
    return b"".join(each.partition(b"\r\n\r\n")[2][1:] for each in end.wire.writes)


@BOTH
@given(up=STREAMS, down=STREAMS, size=st.integers(50, 2000))
def test_the_bytes_of_a_measured_tunnel_pass_immediately_and_unchanged(
    media: bool, up: bytes, down: bytes, size: int
) -> None:
    end = EndToEnd(hold_s=4.0, media=media)
    sent = b""
    for piece in pieces(up, size):
        end.send(piece)
        sent += piece
        assert b"".join(end.upstream.received) == sent
    end.wire.writes.clear()
    said = b""
    for piece in pieces(down, size):
        end.idle()
        end.upstream.says(piece)
        said += piece
        assert answers(end) == said
    assert end.summary.bytes_up == len(up)


class Bench:
    """A measured relay between two connections in memory."""

    def __init__(self, media: bool) -> None:
        self.sessions = Sessions(lambda: 0.0, lambda: 0.0, media=media)
        self.client, self.upstream = Line(), Line()
        table = RelayTable(
            Limits(),
            Admission(Limits(), 1 << 30, OwnCount()),
            lambda: "0000-1",
            self._connect,
            lambda: 0.0,
            self.sessions,
            self.sessions.measure,
        )
        self.client.connect(Waiting())
        table.open("192.0.2.1", self.client, b"")

    async def _connect(self, side: RelayConnection, session: Any) -> str:
        self.upstream.connect(side)
        return "media:1935"

    @property
    def relay(self) -> Any:
        (relay,) = self.sessions.living()
        assert isinstance(relay, Relay)
        return relay


@BOTH
@given(up=STREAMS, down=STREAMS, size=st.integers(50, 2000))
def test_the_bytes_of_a_measured_relay_pass_immediately_and_unchanged(
    media: bool, up: bytes, down: bytes, size: int
) -> None:
    bench = Bench(media)
    for line, other, data in (
        (bench.client, bench.upstream, up),
        (bench.upstream, bench.client, down),
    ):
        said = b""
        for piece in pieces(data, size):
            line.says(piece)
            said += piece
            assert bytes(other.received) == said


@pytest.mark.parametrize("last", ["publish", "play"])
def test_the_reading_of_a_tunnel_stops_when_its_stream_is_known(last: str) -> None:
    for media, goes_on in ((False, False), (True, True)):
        end = EndToEnd(hold_s=0, media=media)
        said = conversation(last)
        end.send(said[:-1])
        assert end.upstream.tunnel.reading is not None
        end.send(said[-1:])
        assert (end.upstream.tunnel.reading is not None) is goes_on
        assert (end.summary.action, end.summary.stream) == (last, "news")


@pytest.mark.parametrize("first", [b"\x06", b"\x08", b"\x47"])
@BOTH
def test_the_reading_of_a_tunnel_stops_if_the_data_is_not_plain_rtmp(
    first: bytes, media: bool
) -> None:
    end = EndToEnd(hold_s=0, media=media)
    end.send(first + bytes(1535))
    assert end.upstream.tunnel.reading is None
    end.send(b"more")
    assert b"".join(end.upstream.received).endswith(b"more")
    bench = Bench(media)
    bench.client.says(first + bytes(1535))
    assert bench.relay.reading is None


@BOTH
def test_the_reading_of_a_relay_stops_when_its_stream_is_known(media: bool) -> None:
    bench = Bench(media)
    bench.client.says(conversation()[:-1])
    assert bench.relay.reading is not None
    bench.client.says(conversation()[-1:])
    assert (bench.relay.reading is not None) is media
