"""The table of flows: its limits, and what it lets pass to a client."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.protocols.reasons import EndReason
from gateway.protocols.udp_flows import (
    AMPLIFICATION,
    LEAST_S,
    UNANSWERED_BYTES,
    Drop,
    Flow,
    FlowLimits,
    FlowTable,
)

LIMITS = FlowLimits(flows=4, flows_per_client=2, datagram_bytes=1500, idle_s=60.0, proof_s=10.0)
CLIENT = ("192.0.2.1", 1000)
HELLO = b"h" * 100


def table(limits: FlowLimits = LIMITS) -> FlowTable:
    return FlowTable(limits, lambda host: not host.startswith("203."))


def opened(flows: FlowTable, client: tuple[str, int] = CLIENT, now: float = 0.0) -> Flow:
    """A flow that has received its first datagram."""
    flow = flows.open(client, len(HELLO), now)
    assert isinstance(flow, Flow)
    assert flows.receive(flow, HELLO, now) is None
    return flow


def proven(flows: FlowTable, client: tuple[str, int] = CLIENT, now: float = 0.0) -> Flow:
    flow = opened(flows, client, now)
    assert flows.reply(flow, 10) is None
    assert flows.receive(flow, b"answer", now) is None
    assert flow.is_proven
    return flow


# --- Amplification ---


def test_an_unproven_client_gets_three_times_what_it_has_sent() -> None:
    flows = table()
    flow = opened(flows)
    assert flows.reply(flow, 200) is None
    assert flows.reply(flow, 101) is Drop.UNPROVEN
    assert flows.reply(flow, 100) is None
    assert flows.reply(flow, 1) is Drop.UNPROVEN
    assert flows.drops[Drop.UNPROVEN] == 2
    assert (flows.down.datagrams, flows.down.bytes) == (2, 300)


def test_a_different_datagram_after_a_reply_proves_the_address() -> None:
    flows = table()
    flow = proven(flows)
    assert flows.unproven == 0
    for _ in range(100):
        assert flows.reply(flow, 1500) is None


def test_datagrams_before_the_first_reply_prove_nothing() -> None:
    flows = table()
    flow = opened(flows)
    flows.receive(flow, b"second", 0.1)
    assert not flow.is_proven


def test_a_repeated_datagram_proves_nothing() -> None:
    flows = table()
    flow = opened(flows)
    flows.reply(flow, 10)
    flows.receive(flow, HELLO, 0.1)
    assert not flow.is_proven
    assert flow.credit == AMPLIFICATION * 2 * len(HELLO) - 10


def test_a_reply_that_was_not_sent_proves_nothing() -> None:
    flows = table()
    flow = opened(flows)
    flows.reply(flow, 10)
    flows.not_sent(flow, 10, False)
    assert flow.credit == AMPLIFICATION * len(HELLO)
    flows.receive(flow, b"second", 0.1)
    assert not flow.is_proven


def test_a_proven_client_gets_a_limited_amount_between_two_of_its_datagrams() -> None:
    flows = table()
    flow = proven(flows)
    for number in (1, 2):
        sent = 0
        while flows.reply(flow, 1500) is None:
            sent += 1500
        assert UNANSWERED_BYTES - 1500 < sent <= UNANSWERED_BYTES
        assert flows.drops[Drop.UNANSWERED] == number
        flows.receive(flow, b"ack", 1.0)


# --- Limits ---


@pytest.mark.parametrize(
    ("client", "size", "reason"),
    [
        (("198.51.100.1", 1), 0, Drop.EMPTY),
        (("198.51.100.1", 1), 1501, Drop.TOO_LARGE),
        (("203.0.113.1", 1), 10, Drop.DENIED),
        ((CLIENT[0], 3), 10, Drop.CLIENT_FULL),
    ],
)
def test_a_datagram_that_opens_no_flow_is_counted(
    client: tuple[str, int], size: int, reason: Drop
) -> None:
    flows = table()
    for port in (1, 2):
        opened(flows, (CLIENT[0], port))
    assert flows.open(client, size, 0.0) is reason
    assert flows.drops[reason] == 1
    assert len(flows) == 2


def test_datagrams_of_bad_size_pass_in_neither_direction() -> None:
    flows = table()
    flow = proven(flows)
    assert flows.receive(flow, b"", 0.0) is Drop.EMPTY
    assert flows.receive(flow, bytes(1501), 0.0) is Drop.TOO_LARGE
    assert flows.reply(flow, 1501) is Drop.TOO_LARGE
    assert flows.reply(flow, 0) is Drop.EMPTY


def test_a_full_table_replaces_the_oldest_unproven_flow_only_after_a_second() -> None:
    flows = table()
    first = proven(flows, ("192.0.2.10", 1))
    second, *_ = (opened(flows, (f"192.0.2.2{number}", 1), number / 10) for number in range(3))
    assert flows.open(CLIENT, 10, LEAST_S - 0.1) is Drop.FULL
    assert not flows.displaced
    assert isinstance(flows.open(CLIENT, 10, LEAST_S), Flow)
    assert flows.displaced == [second]
    assert second.ended is EndReason.ABANDONED
    assert first.ended is None
    assert len(flows) == LIMITS.flows


def test_a_client_that_may_not_have_a_flow_replaces_none() -> None:
    flows = table()
    for number in range(4):
        opened(flows, (f"192.0.2.2{number}", 1))
    assert flows.open(("203.0.113.1", 1), 10, 5.0) is Drop.DENIED
    assert not flows.displaced


def test_forged_datagrams_of_one_address_do_not_keep_its_client_out() -> None:
    flows = table()
    first, second = (opened(flows, (CLIENT[0], port)) for port in (1, 2))
    assert flows.open((CLIENT[0], 3), 10, LEAST_S - 0.1) is Drop.CLIENT_FULL
    assert isinstance(flows.open((CLIENT[0], 3), 10, LEAST_S), Flow)
    assert flows.displaced == [first]
    assert first.ended is EndReason.ABANDONED
    assert second.ended is None


def test_proven_flows_of_a_client_keep_their_places() -> None:
    flows = table()
    for port in (1, 2):
        proven(flows, (CLIENT[0], port))
    assert flows.open((CLIENT[0], 3), 10, LEAST_S) is Drop.CLIENT_FULL
    assert not flows.displaced


def test_ipv6_clients_are_counted_by_network() -> None:
    flows = table()
    for host in ("2001:db8:1:2::5", "2001:db8:1:2:ffff::"):
        opened(flows, (host, 1))
    assert flows.open(("2001:db8:1:2::6", 1), 10, 0.0) is Drop.CLIENT_FULL
    assert isinstance(flows.open(("2001:db8:1:3::5", 1), 10, 0.0), Flow)


# --- Ends ---


def test_a_flow_ends_when_its_client_is_silent_even_if_the_server_is_not() -> None:
    flows = table()
    flow = proven(flows)
    flows.receive(flow, b"more", 5.0)
    assert not flows.expired(64.9)
    flows.reply(flow, 10)
    assert flows.expired(65.0) == [flow]
    assert flow.ended is EndReason.CLIENT_SILENT
    assert not len(flows)


@pytest.mark.parametrize(
    ("replies", "reason"),
    [(0, EndReason.UPSTREAM_UNAVAILABLE), (1, EndReason.ABANDONED)],
)
def test_a_client_has_a_fixed_time_to_prove_its_address(replies: int, reason: EndReason) -> None:
    flows = table()
    flow = opened(flows)
    for _ in range(replies):
        flows.reply(flow, 10)
    flows.receive(flow, HELLO, 9.0)
    assert not flows.expired(9.9)
    assert flows.expired(10.0) == [flow]
    assert flow.ended is reason


def test_an_ended_flow_gives_its_place_back() -> None:
    flows = table()
    for flow in [opened(flows, (CLIENT[0], port)) for port in (1, 2)]:
        flows.end(flow, EndReason.CLIENT_LOST)
    assert len(flows) == flows.unproven == len(flows._of_client) == 0
    opened(flows)


class Model(RuleBasedStateMachine):
    """Any sequence of datagrams. Received and sent bytes are counted apart from the table."""

    def __init__(self) -> None:
        super().__init__()
        self.flows = table()
        self.now = 0.0
        self.received: Counter[Flow] = Counter()
        self.sent: Counter[Flow] = Counter()
        self.since_heard: Counter[Flow] = Counter()

    @rule(
        host=st.sampled_from(
            ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "203.0.113.1"]
        ),
        port=st.integers(1, 3),
        data=st.sampled_from([b"", b"a" * 10, b"b" * 700, b"c" * 1500, b"d" * 1501]),
        is_sent=st.booleans(),
    )
    def receive(self, host: str, port: int, data: bytes, is_sent: bool) -> None:
        flow: Flow | Drop | None = next(
            (each for each in self.flows if each.address == (host, port)), None
        )
        if flow is None:
            flow = self.flows.open((host, port), len(data), self.now)
            self.flows.displaced.clear()
        if isinstance(flow, Flow) and self.flows.receive(flow, data, self.now) is None:
            self.received[flow] += len(data)
            self.since_heard[flow] = 0
            if not is_sent:
                self.flows.not_sent(flow, len(data), True)

    @precondition(lambda self: len(self.flows))
    @rule(choice=st.integers(0), size=st.integers(0, 1600), is_sent=st.booleans())
    def reply(self, choice: int, size: int, is_sent: bool) -> None:
        flow = list(self.flows)[choice % len(self.flows)]
        if self.flows.reply(flow, size) is None:
            if is_sent:
                self.sent[flow] += size
                self.since_heard[flow] += size
            else:
                self.flows.not_sent(flow, size, False)

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.flows.expired(self.now)

    @invariant()
    def no_client_gets_more_than_it_is_owed(self) -> None:
        for flow in self.flows:
            if not flow.is_proven:
                assert self.sent[flow] <= AMPLIFICATION * self.received[flow]
            assert self.since_heard[flow] <= UNANSWERED_BYTES

    @invariant()
    def the_table_is_bounded(self) -> None:
        flows = list(self.flows)
        assert len(flows) <= LIMITS.flows
        assert max(Counter(flow.client for flow in flows).values(), default=0) <= 2
        assert all(flow.ended is None for flow in flows)
        assert self.flows.unproven == sum(not flow.is_proven for flow in flows)
        assert sum(len(flow.last_up) for flow in flows) <= LIMITS.flows * LIMITS.datagram_bytes

    @invariant()
    def every_flow_ends_in_time(self) -> None:
        for flow in self.flows:
            assert self.now - (flow.heard_at if flow.is_proven else flow.opened_at) < LIMITS.idle_s

    @invariant()
    def counts_are_those_of_sent_datagrams(self) -> None:
        assert self.flows.down.bytes == self.sent.total()


Model.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestModel = Model.TestCase
