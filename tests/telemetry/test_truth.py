"""Each known delay shows in its own latency, and in no other, within 10 %."""

from __future__ import annotations

import pytest

from gateway.protocols.rtmp.amf import Value
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.commands import Command
from gateway.protocols.rtmp.handshake import HANDSHAKE_BYTES
from gateway.protocols.rtmp.messages import Message, MessageType, UserControl, user_control
from gateway.telemetry.measurement.figures import Figures
from gateway.telemetry.measurement.totals import Histograms
from gateway.telemetry.sessions import Sessions
from gateway.telemetry.summary import Summary
from tests.helpers.http_conversation import Gateway, Upstream, Wire
from tests.helpers.session_recording import Conversation

SOME_US = 0.000_05


def post(command: bytes, session_id: bytes, number: int, body: bytes = b"\0") -> bytes:
    return (
        b"POST /%b/%b/%d HTTP/1.1\r\nHost: h\r\nVia: 1.1 cache\r\nContent-Length: %d\r\n\r\n%b"
        % (command, session_id, number, len(body), body)
    )


class EndToEnd:
    """A gateway in memory, a client that speaks HTTP, and an upstream, with a clock of the test's."""

    def __init__(
        self,
        hold_s: float = 0.5,
        media: bool = False,
        connect_s: float = 0.0,
        agent: bytes = b"Test",
    ) -> None:
        self.gateway = Gateway(hold_s=hold_s)
        clock = self.gateway.clock
        self.gateway.records = Sessions(clock, clock, media=media)
        self.gateway.sessions._telemetry = self.gateway.records
        self.gateway.sessions._measure = self.gateway.records.measure
        self.gateway.dialling = bool(connect_s)
        self.wire: Wire = self.gateway.accept()
        self.wire.arrive(b"POST /open/1 HTTP/1.1\r\nHost: h\r\nUser-Agent: %b\r\n\r\n" % agent)
        if connect_s:
            self.wait(connect_s)
            self.gateway.connects()
        self.session_id = b"".join(self.wire.writes).partition(b"\r\n\r\n")[2].strip()
        self.wire.writes.clear()
        self.number = 0

    @property
    def upstream(self) -> Upstream:
        return self.gateway.upstreams[-1]

    def wait(self, seconds: float) -> None:
        """Advance the time and run the gateway's timers, except those for silent clients."""
        self.gateway.clock.now += seconds

    def send(self, body: bytes = b"x", number: int | None = None) -> None:
        self._post(b"send", number, body)

    def idle(self) -> None:
        self._post(b"idle", None, b"\0")

    def _post(self, command: bytes, number: int | None, body: bytes) -> None:
        if number is None:
            number = self.number
            self.number += 1
        self.wire.arrive(post(command, self.session_id, number, body))
        self.gateway.turn()

    @property
    def summary(self) -> Summary:
        (summary,) = self.gateway.records.summaries()
        return summary

    def slow_ones(self) -> dict[str, float]:
        """The maximum of each latency that is above zero."""
        found = {name: estimate.max_s for name, estimate in self.summary.latencies.items()}
        return {name: value for name, value in found.items() if value > SOME_US}


def about(**latencies: float) -> dict[str, float]:
    return {name: pytest.approx(value, rel=0.1) for name, value in latencies.items()}


def test_a_client_that_waits_between_polls_shows_in_the_poll_gap() -> None:
    end = EndToEnd()
    for _ in range(20):
        end.idle()
        end.upstream.says(b"data")
        end.wait(0.2)
    assert end.slow_ones() == about(poll_gap=0.2)
    assert end.summary.latencies["poll_gap"].p50_s == pytest.approx(0.2, rel=0.1)
    assert end.summary.latencies["downstream_wait"].count == 20


def test_a_late_upstream_causes_no_delay_in_the_gateway() -> None:
    end = EndToEnd(hold_s=4.0)
    for _ in range(20):
        end.idle()
        end.wait(0.3)
        end.upstream.says(b"data")
    assert end.slow_ones() == {}
    assert end.summary.held_answers == end.summary.filled_answers == 20


def test_unanswered_data_shows_in_the_downstream_wait() -> None:
    end = EndToEnd(hold_s=0)
    for _ in range(20):
        end.upstream.says(b"data")
        end.wait(0.12)
        end.send()
        end.send()
    found = end.slow_ones()
    assert found.pop("downstream_wait") == pytest.approx(0.12, rel=0.1)
    # The client was away for as long.
    assert found == about(poll_gap=0.12)


def test_the_wait_of_an_answer_is_that_of_its_oldest_byte() -> None:
    figures = Figures(Histograms())
    figures.downstream_waits(100, 1.0)
    figures.downstream_waits(200, 1.5)
    figures.downstream_answered(100, 1, 2.0)
    assert figures.downstream_wait.last_s == pytest.approx(1.0)
    figures.downstream_answered(150, 2, 2.0)
    assert figures.downstream_wait.last_s == pytest.approx(0.5)
    figures.downstream_answered(200, 3, 2.5)
    assert figures.downstream_wait.last_s == pytest.approx(1.0)
    assert figures.waiting == []


def test_the_number_of_stored_arrival_times_is_limited() -> None:
    figures = Figures(Histograms())
    for number in range(10_000):
        figures.downstream_waits(number, float(number))
    assert len(figures.waiting) <= 16
    figures.downstream_answered(9_999, 1, 10_000.0)
    assert figures.waiting == []


def test_commands_out_of_order_show_in_the_upstream_delay() -> None:
    end = EndToEnd(hold_s=0)
    end.send()
    for number in range(1, 21, 2):
        end.send(b"second", number + 1)
        end.wait(0.08)
        end.send(b"first", number)
    assert end.slow_ones() == about(upstream_delay=0.08)
    assert end.summary.reorders == 10
    assert end.summary.sends == 21


def test_an_upstream_that_reads_slowly_shows_in_the_upstream_delay() -> None:
    end = EndToEnd(hold_s=0)
    for _ in range(10):
        end.upstream.unsent = 100_000
        end.upstream.tunnel.pauseProducing()
        end.send()
        end.wait(0.4)
        end.upstream.tunnel.resumeProducing()
    assert end.slow_ones() == about(upstream_delay=0.4)


def test_a_send_that_waits_for_its_order_and_then_for_the_upstream_has_one_delay() -> None:
    talk = Conversation()
    figures = Figures(Histograms())
    talk.session._figures = figures
    talk.send(0)
    talk.send(2)
    talk.later(0.1)
    talk.fill()
    talk.send(1)
    talk.later(0.3)
    talk.drain()
    assert figures.upstream_delay.late == 2
    assert figures.estimates(*talk.session.moments)["upstream_delay"].max_s == pytest.approx(
        0.4, rel=0.1
    )


def test_an_upstream_that_connects_late_shows_in_the_connect_time() -> None:
    end = EndToEnd(connect_s=0.15)
    end.idle()
    end.upstream.says(b"data")
    end.idle()
    assert end.summary.upstream_connect_s == pytest.approx(0.15, rel=0.1)
    assert end.slow_ones() == {}


@pytest.mark.parametrize("asker", ["client", "upstream"])
def test_a_late_pong_shows_in_the_ping_of_the_answering_side(asker: str) -> None:
    end = EndToEnd(media=True)
    up, down = ChunkWriter(), ChunkWriter()
    end.send(b"\x03" + bytes(HANDSHAKE_BYTES - 1))
    end.upstream.says(b"\x03" + bytes(HANDSHAKE_BYTES - 1))
    request = user_control(UserControl.PING_REQUEST, 77)
    response = user_control(UserControl.PING_RESPONSE, 77)
    end.idle()
    if asker == "upstream":
        end.idle()
        end.upstream.says(down.write(request))
        end.wait(0.1)
        end.send(up.write(response))
        # The client's answer is its next command.
        assert end.slow_ones() == about(ping_client=0.1, poll_gap=0.1)
    else:
        end.send(up.write(request))
        end.idle()
        end.wait(0.1)
        end.upstream.says(down.write(response))
        assert end.slow_ones() == about(ping_upstream=0.1)


def test_late_media_shows_in_the_lateness() -> None:
    end = EndToEnd(media=True)
    up = ChunkWriter()
    end.send(b"\x03" + bytes(HANDSHAKE_BYTES - 1))
    publish = b"\x02\x00\x07publish\x00" + bytes(8) + b"\x05\x02\x00\x01s"
    end.send(up.write(Message(MessageType.COMMAND, publish, 1)))
    for number in range(20):
        end.send(up.write(Message(MessageType.VIDEO, b"frame", 1, 40 * number)))
        end.wait(0.04)
    end.wait(0.25)
    end.send(up.write(Message(MessageType.VIDEO, b"frame", 1, 800)))
    assert end.summary.latencies["media_late"].max_s == pytest.approx(0.25, rel=0.1)
    assert end.summary.latencies["media_late"].p50_s < 0.001
    assert end.summary.media_drift_s == pytest.approx(0.0, abs=1e-6)
    assert (end.summary.stream, end.summary.action) == ("s", "publish")


def test_a_client_that_does_not_wait_for_answers_has_no_poll_gap() -> None:
    end = EndToEnd(hold_s=4.0)
    end.idle()
    end.upstream.says(b"data")
    for _ in range(10):
        end.idle()
        end.wait(1.0)
        end.idle()
        end.upstream.says(b"data")
    gaps = end.summary.latencies["poll_gap"]
    assert gaps.max_s < SOME_US


def test_the_connections_and_proxies_of_a_session_are_counted() -> None:
    end = EndToEnd(hold_s=0)
    end.send()
    end.send()
    end.wire = end.gateway.accept()
    end.send()
    assert end.summary.connections == 2
    assert end.summary.proxies == ("1.1 cache",)
    assert end.summary.client == "Test"


@pytest.mark.parametrize(
    ("agent", "client"),
    [
        (b"Test", "FMLE/3.0"),
        (b"rtmpt-client/1.2", "rtmpt-client/1.2 (FMLE/3.0)"),
        (b"rtmpt-client/" + b"1" * 200, "rtmpt-client/" + "1" * 115),
    ],
)
def test_the_tunnel_client_is_shown_with_the_program_behind_it(agent: bytes, client: str) -> None:
    end = EndToEnd(media=True, agent=agent)
    assert end.summary.client == agent[:128].decode()
    end.send(b"\x03" + bytes(HANDSHAKE_BYTES - 1))
    asked: Value = {"app": "live", "flashVer": "FMLE/3.0"}
    end.send(ChunkWriter().write(Command("connect", 1.0, asked, (), 0).message()))
    assert end.summary.client == client


def test_a_session_without_measurement_has_only_counts() -> None:
    end = EndToEnd()
    end.gateway.sessions._measure = lambda ingress: None
    wire = end.wire = end.gateway.accept()
    wire.arrive(b"POST /open/1 HTTP/1.1\r\nHost: h\r\n\r\n")
    end.session_id = b"".join(wire.writes).partition(b"\r\n\r\n")[2].strip()
    end.send(b"four")
    summary = list(end.gateway.records.summaries())[-1]
    measured = [each for each in end.gateway.records.summaries() if each.bytes_up]
    assert [each.bytes_up for each in measured] == [4]
    assert measured[0].latencies == {}
    assert summary.tcp is None
