"""RTMPE that ends at the gateway, for relays and for tunnels: bytes, reading, deadlines, bad handshakes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf
from random import Random
from typing import Any

import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocols.access import ALLOWED, AccessRequest, Action, Verdict, Visitor
from gateway.protocols.commands import Kind
from gateway.protocols.http import Fields
from gateway.protocols.ingress import Ingress
from gateway.protocols.limits import Limits
from gateway.protocols.reasons import EndReason
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.handshake import (
    BLOCK_BYTES,
    HANDSHAKE_BYTES,
    RANDOM_BYTES,
    ServerHandshake,
)
from gateway.protocols.rtmp.messages import UserControl, user_control
from gateway.protocols.rtmp.passive import Facts, PassiveReader
from gateway.protocols.session import Session
from gateway.tunnels.access_control import AccessControl, Controlled
from gateway.tunnels.admission import Admission
from gateway.tunnels.ids import SessionIds
from gateway.tunnels.relay import Relay
from gateway.tunnels.relay_table import RelayTable
from gateway.tunnels.table import SessionTable
from gateway.tunnels.terminations import NOT_KNOWN_YET, Terminations
from gateway.tunnels.tunnel import Tunnel
from tests.helpers.line import Line
from tests.helpers.own_count import OwnCount
from tests.helpers.rtmp_client import Client
from tests.helpers.rtmpe_client import RTMPEClient
from tests.helpers.session_recording import Reply
from tests.tunnels.upstream import UpstreamTransport

LIMITS = Limits()
PLAIN_HELLO = b"\x03" + bytes(1536)
ENCRYPTED_SERVER, OPAQUE_SERVER = "plain:1935", "opaque:1935"
# 1,536 bytes without digest.
BAD_HELLO = b"\x06" + bytes(1536)


class Figures:
    """The measurements of one session: of those, the passive reader's."""

    def __init__(self) -> None:
        self.facts = Facts()
        self.pings: list[float] = []

    def take_reading(self) -> PassiveReader:
        return PassiveReader(self.facts, self)

    def client_pinged(self, seconds: float) -> None:
        self.pings.append(seconds)

    def __getattr__(self, name: str) -> Any:
        return lambda *ignored: None


class Worker:
    """A clock, telemetry, and servers of two kinds; sessions get one of ``server``."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.server = ENCRYPTED_SERVER
        self.ends: list[EndReason] = []
        self.figures: list[Figures] = []
        self.terminations = Terminations(
            frozenset({ENCRYPTED_SERVER}), self.clock, Random(1).randbytes
        )
        self.admission = Admission(LIMITS, 1 << 30, OwnCount())
        self.later: list[Callable[[], None]] = []
        # The cause for which access control refuses everything but a connect; empty if there is none.
        self.refusal = ""

    def control(self, session: Controlled, visitor: Visitor) -> AccessControl | None:
        if not self.refusal:
            return None
        return AccessControl(session, visitor, self, self.later.append)

    def judge(self, request: AccessRequest, visitor: Visitor) -> Verdict:
        return ALLOWED if request.action is Action.CONNECT else Verdict(self.refusal)

    def clock(self) -> float:
        return self.now

    def measure(self, ingress: Ingress) -> Figures:
        self.figures.append(Figures())
        return self.figures[-1]

    def session_opened(self, session: Any) -> None: ...

    def session_ended(self, session: Any, reason: EndReason) -> None:
        self.ends.append(reason)

    def open_refused(self, error: Exception, address: str, ingress: Ingress) -> None:
        raise AssertionError(error)


class Relayed:
    """A client of plain RTMP or RTMPE on a connection."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        table = RelayTable(
            *(LIMITS, worker.admission, lambda: "relay", self._connect, worker.clock, worker),
            worker.measure,
            control=worker.control,
            terminate=worker.terminations.create,
        )
        self._table = table
        self._client = Line()
        self._is_open = False

    async def _connect(self, side: Any, client: str) -> str:
        self.relay: Relay = side._relay
        self._server = Line().connect(side)
        return self.worker.server

    def say_up(self, data: bytes) -> None:
        if self._is_open:
            self._client.says(data)
        else:
            self._is_open = True
            self._table.open("192.0.2.1", self._client, data)

    def say_down(self, data: bytes) -> None:
        self._server.says(data)

    def up(self) -> bytes:
        return bytes(self._server.received)

    def down(self) -> bytes:
        return bytes(self._client.received)

    def passes(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.worker.now += 1
            self._table.sweep(self.worker.now)
            self._client.turn()
            self._server.turn()

    @property
    def session(self) -> Relay:
        return self.relay

    @property
    def is_cut(self) -> bool:
        self._server.turn()
        return self._server.closed


class Tunnelled:
    """A client of RTMPT or RTMPTE, which polls after each send."""

    def __init__(self, worker: Worker, hold_s: float = 0.0) -> None:
        self.worker = worker
        self._table = SessionTable(
            *(LIMITS, hold_s, worker.admission, SessionIds("n1", 0, Random(2).randbytes)),
            *(self._connect, worker.clock, worker, worker.measure),
            control=worker.control,
            terminate=worker.terminations.create,
        )
        reply = Reply()
        self._table.open("192.0.2.1", FIELDS, reply)
        assert reply.body is not None
        self._session: Session = self._table.find(reply.body.removesuffix(b"\n"))
        self._number = 0
        self._down = b""

    async def _connect(self, tunnel: Tunnel, client: str) -> str:
        self.session = tunnel
        self._server = UpstreamTransport(tunnel)
        tunnel.makeConnection(self._server)
        return self.worker.server

    def _command(self, kind: Kind, body: bytes = b"") -> None:
        answer = self._session.receive(kind, self._number, body, self.worker.now, False)
        self._number += 1
        self._down += (answer or b"")[1:]

    def say_up(self, data: bytes) -> None:
        self._command(Kind.SEND, data)

    def hold(self) -> Reply:
        """Send an idle whose answer is held."""
        assert self._session.receive(Kind.IDLE, self._number, b"", self.worker.now, True) is None
        reply = Reply()
        self._session.wait(self._number, reply, self.worker.now)
        self._number += 1
        return reply

    def say_down(self, data: bytes) -> None:
        self._server.say(data)

    def up(self) -> bytes:
        value: bytes = self._server.value()
        return value

    def down(self) -> bytes:
        self._command(Kind.IDLE)
        return self._down

    def passes(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.worker.now += 1
            if not self.is_cut:
                self._command(Kind.IDLE)
            self._table.sweep(self.worker.now)

    @property
    def is_cut(self) -> bool:
        if self._server.disconnected and self._server.connected:
            self._server.hang_up(clean=False)
        return not self._server.connected


Opened = Relayed | Tunnelled
FIELDS = Fields(1, ((b"host", b"gateway"),), 1, False, True, False)


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture(params=[Relayed, Tunnelled])
def opened(request: pytest.FixtureRequest, worker: Worker) -> Opened:
    opened: Opened = request.param(worker)
    return opened


def shake_hands(opened: Opened) -> RTMPEClient:
    client, server = RTMPEClient(), ServerHandshake(0, bytes(RANDOM_BYTES))
    opened.say_up(client.hello)
    opened.say_down(server.receive(opened.up()))
    opened.say_up(client.answer(opened.down()))
    assert server.receive(opened.up()[1537:]) == b""
    assert server.done
    return client


def test_the_server_gets_plain_rtmp_and_the_client_rtmpe(opened: Opened) -> None:
    client = shake_hands(opened)
    opened.say_up(client.encrypt(b"connect"))
    opened.say_down(b"_result")
    opened.say_up(client.encrypt(b"play"))
    opened.say_down(b"onStatus")
    assert opened.up()[HANDSHAKE_BYTES:] == b"connectplay"
    assert client.decrypt(opened.down()[HANDSHAKE_BYTES:]) == b"_resultonStatus"


@pytest.mark.parametrize("kind", [Relayed, Tunnelled])
def test_access_control_reads_and_answers_clients_of_rtmpe(
    worker: Worker, kind: type[Opened]
) -> None:
    worker.refusal = "not today"
    opened = kind(worker)
    client, rtmp = shake_hands(opened), Client()
    connect = rtmp.connect("live")
    opened.say_up(client.encrypt(connect))
    opened.say_up(client.encrypt(rtmp.call("play", 0.0, "news", stream_id=1)))
    for call in worker.later:
        call()
    assert opened.up()[HANDSHAKE_BYTES:] == connect
    answer = client.decrypt(opened.down()[HANDSHAKE_BYTES:])
    assert b"NetStream.Play.Failed" in answer
    assert b"not today" in answer
    assert worker.ends == [EndReason.DENIED]


def test_a_plain_client_passes_unchanged_and_without_a_termination(opened: Opened) -> None:
    opened.say_up(PLAIN_HELLO)
    opened.say_down(b"answer")
    opened.say_up(b"more")
    assert opened.up() == PLAIN_HELLO + b"more"
    assert opened.down() == b"answer"
    assert opened.session.termination is None


@pytest.mark.parametrize("kind", [Relayed, Tunnelled])
def test_rtmpe_passes_unchanged_to_servers_that_speak_it(
    worker: Worker, kind: type[Opened]
) -> None:
    worker.server = OPAQUE_SERVER
    opened = kind(worker)
    opened.say_up(BAD_HELLO)
    opened.say_down(b"answer")
    assert opened.up() == BAD_HELLO
    assert opened.down() == b"answer"
    assert opened.session.termination is None


def test_the_stream_of_a_terminated_session_is_known(opened: Opened, worker: Worker) -> None:
    client, rtmp = shake_hands(opened), Client()
    opened.say_up(client.encrypt(rtmp.connect("live")))
    opened.say_up(client.encrypt(rtmp.call("play", 0.0, "news", stream_id=1)))
    (figures,) = worker.figures
    facts = figures.facts
    assert (facts.application, facts.stream, facts.action) == ("live", "news", "play")
    assert not facts.unreadable


@pytest.mark.parametrize("kind", [Relayed, Tunnelled])
@pytest.mark.parametrize("server", [ENCRYPTED_SERVER, OPAQUE_SERVER])
def test_the_stream_of_a_plain_session_is_known_from_its_first_byte(
    worker: Worker, kind: type[Opened], server: str
) -> None:
    worker.server = server
    opened, rtmp = kind(worker), Client()
    commands = rtmp.connect("live") + rtmp.call("play", 0.0, "news", stream_id=1)
    opened.say_up(PLAIN_HELLO + bytes(1536) + commands)
    (figures,) = worker.figures
    assert (figures.facts.application, figures.facts.stream) == ("live", "news")


def test_pings_of_a_terminated_session_are_measured(opened: Opened, worker: Worker) -> None:
    client, rtmp, server = shake_hands(opened), Client(), ChunkWriter()
    opened.say_up(client.encrypt(rtmp.connect() + rtmp.call("play", 0.0, "news", stream_id=1)))
    opened.say_down(server.write(user_control(UserControl.PING_REQUEST, 7)))
    worker.now += 0.5
    opened.say_up(client.encrypt(rtmp.write(user_control(UserControl.PING_RESPONSE, 7))))
    (figures,) = worker.figures
    assert figures.pings == [0.5]


def test_a_part_of_the_servers_handshake_answers_no_held_idle(worker: Worker) -> None:
    opened = Tunnelled(worker, hold_s=1.0)
    opened.say_up(RTMPEClient().hello)
    reply = opened.hold()
    opened.say_down(b"\x03" + bytes(1536))
    assert reply.body is None
    opened.say_down(bytes(1536))
    assert reply.body is not None
    assert len(reply.body) == 1 + HANDSHAKE_BYTES


@pytest.mark.parametrize("data", [BAD_HELLO, BAD_HELLO + b"early"])
def test_a_bad_handshake_ends_the_session(opened: Opened, worker: Worker, data: bytes) -> None:
    opened.say_up(data)
    opened.say_up(b"more")
    assert opened.is_cut
    assert worker.ends == [EndReason.BAD_HANDSHAKE]
    assert opened.up() == b""


def test_a_server_without_rtmp_ends_the_session(opened: Opened, worker: Worker) -> None:
    opened.say_up(RTMPEClient().hello)
    opened.say_down(b"SSH-2.0-server\r\n")
    assert opened.is_cut
    assert worker.ends == [EndReason.BAD_HANDSHAKE]


@pytest.mark.parametrize("said", [1, 100, 1536, 1537])
def test_a_handshake_that_is_not_complete_in_time_ends_the_session(
    opened: Opened, worker: Worker, said: int
) -> None:
    opened.say_up(RTMPEClient().hello[:said])
    opened.passes(LIMITS.unused_session_s - 1)
    assert worker.ends == []
    opened.passes(2)
    assert opened.is_cut
    (reason,) = worker.ends
    is_empty = isinstance(opened, Relayed) and said < 1537
    assert reason is (EndReason.ABANDONED if is_empty else EndReason.BAD_HANDSHAKE)


def test_a_handshake_byte_by_byte_has_the_same_deadline(opened: Opened, worker: Worker) -> None:
    hello = RTMPEClient().hello
    for at in range(20):
        if not worker.ends:
            opened.say_up(hello[at : at + 1])
            opened.passes(1)
    assert opened.is_cut
    assert len(worker.ends) == 1
    assert worker.now - 1000.0 <= LIMITS.unused_session_s + 1


def test_a_complete_handshake_has_no_deadline(opened: Opened, worker: Worker) -> None:
    client = shake_hands(opened)
    opened.passes(60)
    opened.say_up(client.encrypt(b"late"))
    assert opened.up()[HANDSHAKE_BYTES:] == b"late"
    assert worker.ends == []


# --- Fuzzed handshakes ---


@frozen
class Damage:
    """What happens to a handshake: changed bytes, a cut, bytes that follow, and the pieces in which it is
    sent, one each ``pause_s`` seconds.
    """

    changes: tuple[tuple[int, int], ...]
    end: int
    more: bytes
    piece_bytes: int
    pause_s: int

    def pieces(self, handshake: bytes) -> Iterator[bytes]:
        data = bytearray(handshake)
        for at, change in self.changes:
            data[at] ^= change
        sent = bytes(data[: self.end]) + self.more
        return (sent[at : at + self.piece_bytes] for at in range(0, len(sent), self.piece_bytes))


def damages(size: int) -> st.SearchStrategy[Damage]:
    """Of a handshake of this size, which may also be whole, or not sent."""
    changes = st.lists(st.tuples(st.integers(0, size - 1), st.integers(1, 255)), max_size=3)
    paces = st.sampled_from((1 << 16, 1000, 100)), st.integers(0, 3)
    unchanged = st.just(()), st.sampled_from((size, size, 0)), st.just(b"")
    changed = changes.map(tuple), st.integers(0, size), st.just(b"") | st.binary(max_size=2000)
    return st.builds(Damage, *unchanged, *paces) | st.builds(Damage, *changed, *paces)


@pytest.mark.parametrize("kind", [Relayed, Tunnelled])
@given(
    clients=damages(BLOCK_BYTES),
    servers=damages(HANDSHAKE_BYTES),
    answers=damages(BLOCK_BYTES),
    scheme=st.sampled_from((0, 1)),
    version=st.sampled_from((6, 8)),
)
@settings(max_examples=100, deadline=None)
def test_a_fuzzed_handshake_is_complete_or_ends_the_session_at_its_deadline(
    kind: type[Opened], clients: Damage, servers: Damage, answers: Damage, scheme: int, version: int
) -> None:
    worker = Worker()
    opened = kind(worker)
    client, server = RTMPEClient(scheme, version), ServerHandshake(0, bytes(RANDOM_BYTES))
    begun_at, cut_at = worker.now, inf

    def pass_time(seconds: float) -> None:
        nonlocal cut_at
        for _ in range(int(seconds)):
            opened.passes(1)
            if opened.is_cut:
                cut_at = min(cut_at, worker.now)

    def send(say: Callable[[bytes], None], damage: Damage, handshake: bytes) -> None:
        for piece in damage.pieces(handshake):
            if not opened.is_cut:
                say(piece)
                pass_time(damage.pause_s)

    opened.say_up(client.hello[:1])
    send(opened.say_up, clients, client.hello[1:])
    if len(opened.up()) >= 1 + BLOCK_BYTES:
        send(opened.say_down, servers, server.receive(opened.up()[: 1 + BLOCK_BYTES]))
    send(opened.say_up, answers, bytes(BLOCK_BYTES))
    termination = opened.session.termination
    is_complete = termination is not None and termination.is_complete
    pass_time(LIMITS.unused_session_s + 2)
    if is_complete:
        assert worker.ends == []
        return
    assert cut_at - begun_at <= LIMITS.unused_session_s + 1
    # A tunnel's client that does not ask for the rest of its data is silent.
    pass_time(LIMITS.silent_session_s)
    (reason,) = worker.ends
    assert reason in (EndReason.ABANDONED, EndReason.BAD_HANDSHAKE)


# --- Sessions whose server is not known yet ---


def test_rtmpe_is_decrypted_before_the_server_is_known_only_if_it_is_for_all_servers() -> None:
    for servers in ({ENCRYPTED_SERVER}, {ENCRYPTED_SERVER, NOT_KNOWN_YET}):
        terminations = Terminations(frozenset(servers), lambda: 0.0, Random(1).randbytes)
        found = terminations.create(NOT_KNOWN_YET)
        assert (found is not None) is (NOT_KNOWN_YET in servers)
