"""The sessions of a worker: lookup, filters, ends, sums."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.errors import CapacityReached, RequestRefused
from gateway.protocols.commands import Kind
from gateway.protocols.ingress import Ingress
from gateway.protocols.reasons import EndReason
from gateway.protocols.streaming import StreamedTotals
from gateway.telemetry.exposition.merging import PREFIX
from gateway.telemetry.measurement.latency import SLICE_S
from gateway.telemetry.observer import SessionObserver
from gateway.telemetry.sessions import COUNTS, TURN_S, SessionFilter, add_living
from gateway.telemetry.summary import Summary
from tests.helpers.fabricated_telemetry import Node
from tests.helpers.logged import logged


class Notes:
    """A recorder of session events."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def opened(self, summary: Summary) -> None:
        self.told.append(("opened", summary.alias))

    def stream_began(self, summary: Summary) -> None:
        self.told.append((summary.action, summary.stream))

    def ended(self, summary: Summary) -> None:
        self.told.append(("ended", summary.reason))

    def refused(self, error: RequestRefused, address: str, ingress: Ingress) -> None:
        self.told.append(("refused", (type(error), address, ingress.protocol)))


@pytest.fixture
def node() -> Node:
    return Node()


def aliases(node: Node, **wanted: str) -> list[str]:
    return sorted(each.alias for each in node.sessions.summaries(SessionFilter(**wanted)))


def test_sessions_are_found_by_alias_prefix_stream_upstream_and_protocol(node: Node) -> None:
    first, second = node.open(), node.open("rtmpts", "other:1935")
    second.figures.facts.stream = "news"
    assert aliases(node) == ["n100-1", "n100-2"]
    assert aliases(node, alias="n100-2") == ["n100-2"]
    assert aliases(node, stream="news") == ["n100-2"]
    assert aliases(node, upstream="media:1935") == ["n100-1"]
    assert aliases(node, protocol="rtmpts", upstream="media:1935") == []
    assert node.sessions.summary(first.alias).upstream_connect_s == pytest.approx(0.004)
    assert node.sessions.summary("n100-3") is None
    assert len(node.sessions) == 2


def test_a_session_without_a_server_is_visible_and_its_counts_wait_for_the_server() -> None:
    notes = Notes()
    node = Node(records=[notes])
    tunnel = node.open(server="")
    assert aliases(node) == [tunnel.alias]
    assert node.sessions.active["rtmpt"] == 1
    assert (node.sessions.opened, node.sessions.sums()[1], notes.told) == ({}, [], [])
    tunnel.server = "media:1935"
    node.sessions.session_placed(tunnel, 0.25)
    assert node.sessions.opened == {("rtmpt", "0.0.0.0:80", "media:1935"): 1}
    assert node.sessions.sums()[1] == [tunnel]
    assert node.sessions.summary(tunnel.alias).upstream_connect_s == pytest.approx(0.25)
    assert notes.told == [("opened", tunnel.alias)]


def test_a_session_that_gets_no_server_says_nothing_about_a_server() -> None:
    node = Node()
    tunnel = node.open(server="")
    node.now += 100.0
    for _ in range(1000):
        node.sessions.turn()
    assert node.sessions.unanswered_s("") == 0.0
    tunnel.session.end(EndReason.ABANDONED, node.now)
    (ended,) = node.sessions.last_ended(1)
    assert (ended.upstream, ended.reason) == ("", "abandoned")


def test_a_summary_has_plain_values_and_no_session_id(node: Node) -> None:
    tunnel = node.open()
    node.talk([tunnel], 3)
    plain = node.sessions.summary(tunnel.alias).as_dict()
    text = json.dumps(plain)
    assert "secret" not in text
    assert plain["sends"] == 3
    assert plain["latencies"]["poll_gap"]["count"] == 2


def test_the_operator_can_end_a_session_by_its_alias(node: Node) -> None:
    tunnel = node.open()
    assert node.sessions.dismiss(tunnel.alias)
    assert tunnel.session.ended is EndReason.ENDED_BY_OPERATOR
    assert not node.sessions.dismiss(tunnel.alias)
    assert node.sessions.ended == {("rtmpt", "ended_by_operator"): 1}


def test_the_last_figures_of_an_ended_session_are_available_for_a_limited_time(node: Node) -> None:
    tunnel = node.open()
    node.talk([tunnel], 5)
    tunnel.dismiss(EndReason.CLIENT_LOST)
    assert not list(node.sessions.summaries())
    summary = node.sessions.summary(tunnel.alias)
    assert (summary.state, summary.reason, summary.sends) == ("ended", "client_lost", 5)
    assert node.sessions.just_ended() == [summary]
    assert node.sessions.just_ended(SessionFilter(alias="x")) == []
    node.sessions.forget_ended([summary])
    assert node.sessions.summary(tunnel.alias) is None


@pytest.mark.parametrize("most", [0, 1, 3])
def test_the_number_of_stored_ended_sessions_is_limited(most: int) -> None:
    node = Node(keep_ended=most)
    for _ in range(5):
        node.open().dismiss(EndReason.CLIENT_LOST)
    assert len(node.sessions.just_ended()) == most


def test_active_sessions_are_counted_by_protocol(node: Node) -> None:
    first = node.open()
    node.open("rtmpts", "other:1935")
    assert node.sessions.active == {"rtmpt": 1, "rtmpts": 1}
    first.dismiss(EndReason.CLIENT_LOST)
    assert node.sessions.active == {"rtmpt": 0, "rtmpts": 1}


class Faulty(SessionObserver):
    """An observer that fails at each event."""

    def opened(self, summary: Summary) -> None:
        raise RuntimeError("a fault")

    def refused(self, error: RequestRefused, address: str, ingress: Ingress) -> None:
        raise RuntimeError("a fault")

    stream_began = stream_unknown = ended = opened


def test_a_fault_of_an_observer_is_logged_and_changes_nothing_else() -> None:
    notes: Any = Notes()
    node = Node(records=[Faulty(), notes])
    with logged() as lines:
        tunnel = node.open()
        tunnel.figures.facts.action = "play"
        tunnel.figures.facts.notice()
        tunnel.dismiss(EndReason.CLIENT_LOST)
        node.sessions.open_refused(CapacityReached("full"), "192.0.2.1", Ingress())
    assert [what for what, _ in notes.told] == ["opened", "play", "ended", "refused"]
    assert [line.partition("\n")[0] for line in lines] == [
        "critical: An observer of sessions failed"
    ] * 4
    assert [each.alias for each in node.sessions.just_ended()] == [tunnel.alias]


def test_a_session_is_of_its_server_until_its_client_has_all_data(node: Node) -> None:
    tunnel = node.open()
    tunnel.session.upstream_data(b"y", node.now)
    tunnel.session.upstream_ended(EndReason.UPSTREAM_CLOSED, node.now)
    assert node.sessions.has_of("media:1935")
    assert not node.sessions.has_of("other:1935")
    tunnel.session.receive(Kind.IDLE, 0, b"", node.now)
    assert not node.sessions.has_of("media:1935")


def test_the_end_of_a_session_does_not_change_the_sums(node: Node) -> None:
    tunnels = [node.open(), node.open(), node.open("rtmpts")]
    node.talk(tunnels, 10)

    def sums() -> dict[tuple[str, str, str], list[int]]:
        ended, living = node.sessions.sums()
        for session in living:
            add_living(ended, session)
        return ended

    before = sums()
    assert before["rtmpt", "0.0.0.0:80", "media:1935"][COUNTS.index("sends")] == 20
    tunnels[0].dismiss(EndReason.CLIENT_LOST)
    assert sums() == before


def test_the_commands_of_each_kind_are_counted_from_their_numbers(node: Node) -> None:
    tunnel = node.open()
    session = tunnel.session
    for number, kind in enumerate((Kind.IDLE, Kind.SEND, Kind.IDLE, Kind.SEND, Kind.CLOSE), 1):
        session.receive(kind, number, b"\0", node.now, False)
    session.receive(Kind.CLOSE, 5, b"", node.now)
    assert (session.sends, session.idles, session.closes, session.repeats) == (2, 2, 1, 1)


def test_the_sliding_minute_of_every_session_advances_once_in_a_slice(node: Node) -> None:
    tunnels = [node.open() for _ in range(100)]
    node.talk(tunnels, 2)
    for _ in range(2):
        assert all("poll_gap" in each.latencies for each in node.sessions.summaries())
        for _ in range(round(SLICE_S / TURN_S)):
            node.sessions.turn()
    assert not any(each.latencies for each in node.sessions.summaries())


def test_every_measured_value_is_in_the_totals_within_ten_seconds(node: Node) -> None:
    tunnels = [node.open() for _ in range(100)]
    node.talk(tunnels, 3)
    for _ in range(round(SLICE_S / TURN_S / 3)):
        node.sessions.turn()
    assert sum(node.sessions.totals.protocols["rtmpt"].poll_gap) == 200


def test_session_events_are_reported_in_order() -> None:
    notes = Notes()
    node = Node(records=[notes])
    tunnel = node.open()
    facts = tunnel.figures.facts
    facts.action, facts.stream = "play", "news"
    facts.noticed()
    tunnel.dismiss(EndReason.CLIENT_CLOSED)
    node.sessions.open_refused(CapacityReached("sessions"), "192.0.2.1", Ingress("rtmps"))
    assert notes.told == [
        ("opened", tunnel.alias),
        ("play", "news"),
        ("ended", "client_closed"),
        ("refused", (CapacityReached, "192.0.2.1", "rtmps")),
    ]
    assert node.sessions.refused == {"capacity_reached": 1}


def test_a_failed_relay_is_counted_as_refused_only() -> None:
    notes = Notes()
    node = Node(records=[notes])
    tunnel = node.open()
    notes.told.clear()
    node.sessions._group(tunnel.alias).clear()
    tunnel.dismiss(EndReason.UPSTREAM_UNAVAILABLE)
    assert notes.told == []
    assert node.sessions.ended == {("rtmpt", "upstream_unavailable"): 1}


def test_streamed_answers_of_active_and_ended_sessions_are_summed(node: Node) -> None:
    tunnel = node.open()
    tunnel.session._totals = StreamedTotals()
    tunnel.session._totals.answers, tunnel.session._totals.size_bytes = 3, 5000
    tunnel.session._totals.seconds = 2.5
    for _ in range(2):
        families = {each.name: each for each in node.metrics.families() if each is not None}
        for name, value in (("answers", 3), ("answer_bytes", 5000), ("answer_seconds", 2.5)):
            (sample,) = families[f"{PREFIX}streamed_{name}"].samples
            assert sample.value == value
        tunnel.session.close(node.now)
    (found,) = node.sessions.just_ended()
    assert (found.streamed_answers, found.streamed_bytes, found.streamed_s) == (3, 5000, 2.5)
