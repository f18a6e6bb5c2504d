"""A worker's share of one ``[[udp]]``: its listening socket, and the sessions of its clients.

The listening socket gets the first datagram of each client; all further ones reach the session's own socket
(sockets.py). A worker that has been replaced closes its listening socket and keeps its sessions, so that
their server-side ports stay the same.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Mapping
from errno import EADDRINUSE
from typing import Any, Final, Protocol, final

from attrs import frozen
from twisted.logger import Logger

from gateway.addresses import TcpAddress
from gateway.descriptors import CAUSES, descriptors
from gateway.errors import OpeningFailed, RequestRefused, ResourcesExhausted
from gateway.logs import debugging, repeated
from gateway.protocols.ingress import UDP, UDP_SCHEME, Ingress
from gateway.protocols.proxy_header import datagram_header
from gateway.protocols.reasons import EndReason
from gateway.protocols.udp_flows import Address, Counts, Drop, Flow, FlowLimits, FlowTable
from gateway.tunnels.admission import Admission
from gateway.udp import sockets
from gateway.udp.reader import DatagramReader
from gateway.udp.session import UdpSession
from gateway.udp.unanswered import UnansweredClients
from gateway.upstreams.dial import Server

_log = Logger()

# First datagrams in one turn of the reactor. Each opens two sockets, which takes about 0.1 ms.
_AT_ONCE: Final = 16
SIDES: Final = ("client", "server")
_USED: Final = (
    "a socket cannot be opened beside the listening one, which another user has opened; start the gateway"
    " as its own user (systemd: User=)"
)


class Telemetry(Protocol):
    """Observer of sessions. A session is reported once its client has proved its address."""

    def session_opened(self, session: UdpSession) -> None: ...

    def session_ended(self, session: UdpSession, reason: EndReason) -> None: ...

    def open_refused(self, error: RequestRefused, address: str, ingress: Ingress) -> None: ...


@frozen
class UdpSettings:
    """``name``: the configured address. ``queued_bytes``: of each socket. ``sends_header``: whether
    datagrams to the server begin with a PROXY protocol header. ``permits``: whether a client's address may
    have sessions.
    """

    name: str
    limits: FlowLimits
    queued_bytes: int
    sends_header: bool
    permits: Callable[[str], bool]


@final
class UdpListener:
    """``next_alias``: of a new session. ``start`` follows ``adopt``."""

    def __init__(
        self,
        settings: UdpSettings,
        reactor: Any,
        server: Server,
        admission: Admission,
        telemetry: Telemetry,
        next_alias: Callable[[], str],
        clock: Callable[[], float],
    ) -> None:
        self.server = server
        self.clock = clock
        self.table = FlowTable(settings.limits, settings.permits)
        self.buffer = bytearray(settings.limits.datagram_bytes + 1)
        # ICMP messages, by the side that they came from.
        self.refusals: Counter[str] = Counter(dict.fromkeys(SIDES, 0))
        self._settings = settings
        self._reactor = reactor
        self._admission = admission
        self._telemetry = telemetry
        self._next_alias = next_alias
        self._ingress = Ingress(UDP, settings.name)
        self._server_name = f"{UDP_SCHEME}{server.name}"
        self._sessions: dict[Address, UdpSession] = {}
        self._unanswered = UnansweredClients(settings.limits.flows)
        self._reader: DatagramReader | None = None
        self._local = TcpAddress("0.0.0.0", 0)

    @property
    def unproven(self) -> int:
        """The number of sessions whose client is not proven."""
        return self.table.unproven

    @property
    def relayed(self) -> Mapping[str, Counts]:
        """What was relayed, by direction."""
        return {"up": self.table.up, "down": self.table.down}

    @property
    def drops(self) -> Mapping[str, int]:
        """Dropped datagrams by reason."""
        return {reason.value: count for reason, count in self.table.drops.items()}

    # Life cycle, called by the worker

    def adopt(self, descriptor: int) -> TcpAddress:
        """Take over the descriptor of a listening socket of the supervisor. Returns its address."""
        listening = sockets.adopt(descriptor)
        self._local = sockets.address_of(listening)
        self._reader = DatagramReader(self._reactor, listening, self._read, self._failed)
        return self._local

    def start(self) -> None:
        """Read first datagrams from now on."""
        if self._reader is not None:
            self._reader.start()

    def stop_listening(self) -> None:
        """Open no more sessions. Other workers get the first datagrams that are still in the socket."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def end_all(self, reason: EndReason) -> None:
        """End every session."""
        for session in tuple(self._sessions.values()):
            session.end(reason)

    def sweep(self, now: float) -> None:
        """End the sessions whose deadline has passed."""
        for flow in self.table.expired(now):
            self._close(flow)

    # Datagrams of the listening socket

    def _read(self) -> None:
        reader, size = self._reader, len(self.buffer)
        for _ in range(_AT_ONCE):
            if reader is None or reader.fileno() == -1:
                return
            try:
                data, ancillary, _, client = reader.socket.recvmsg(size, sockets.ANCILLARY_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                self._failed(error)
                return
            self.received(data, client, sockets.destination(ancillary))

    def _failed(self, error: BaseException | None) -> None:
        repeated.warn(
            _log,
            f"udp {self._settings.name}",
            "udp {listener}: {error}",
            error=error,
            **self._names,
        )
        if self._reader is not None:
            self._reader.start()

    def received(self, data: bytes, client: Address, local: str) -> None:
        """A datagram that has not reached the client's own socket; it may have none yet."""
        now = self.clock()
        session = self._sessions.get(client)
        if session is None:
            session = self._open(client, len(data), local, now)
        if session is not None:
            session.pass_up(data, now)

    # Opening

    def _open(self, client: Address, size: int, local: str, now: float) -> UdpSession | None:
        flow = self.table.open(client, size, now)
        while self.table.displaced:
            self._close(self.table.displaced.pop())
        if isinstance(flow, Drop):
            return None
        try:
            self._admission.enter(client[0])
        except RequestRefused as error:
            self._refuse(flow, error)
            return None
        try:
            session = self._session(flow, local)
        except RequestRefused as error:
            self._admission.leave(client[0])
            self._refuse(flow, error)
            return None
        self._sessions[client] = session
        session.start()
        return session

    def _refuse(self, flow: Flow, error: RequestRefused) -> None:
        self.table.end(flow, EndReason.RESOURCES_EXHAUSTED)
        self.table.drop(Drop.REFUSED)
        self._telemetry.open_refused(error, flow.address[0], self._ingress)

    def _session(self, flow: Flow, local: str) -> UdpSession:
        """Raises RequestRefused."""
        if not descriptors.allow_server():
            raise ResourcesExhausted("too few file descriptors are left")
        place = local or self._local.host, self._local.port
        header = b""
        if self._settings.sends_header:
            header = datagram_header((flow.address[0], flow.address[1]), place)
        host, to_server = self._open_to_server(flow.address)
        try:
            to_client = sockets.to_client(place, flow.address, self._settings.queued_bytes)
        except OSError as error:
            to_server.close()
            raise _refusal(error) from None
        return UdpSession(
            *(self, flow, self._next_alias(), self._ingress, self._server_name, host),
            *((to_client, to_server), header, self._reactor),
        )

    def _open_to_server(self, client: Address) -> tuple[str, socket.socket]:
        """The first address of the server that this machine has a route to, and a socket for it."""
        port, queued_bytes = self.server.address.port, self._settings.queued_bytes
        failure = OSError()
        for host in self._unanswered.order(client, self.server.hosts_in_order()):
            try:
                return host, sockets.to_server(host, port, queued_bytes)
            except OSError as error:
                failure = error
                if error.errno not in CAUSES:
                    self.server.note_beaten([host])
        raise _refusal(failure)

    # Called by the sessions

    def proven(self, session: UdpSession) -> None:
        """The client has proved its address: from now on the session is shown and logged."""
        self.server.note_beaten(self._unanswered.proven(session.flow.address, session.host))
        self._telemetry.session_opened(session)

    def replied(self, session: UdpSession) -> None:
        """The server has answered for the first time."""
        self.server.note_reached(session.host)

    def refused(self, session: UdpSession, side: str) -> None:
        """An ICMP message has refused a datagram. The server's comes from the server's machine, whatever
        the datagram was, so it counts for all clients.
        """
        self.refusals[side] += 1
        if side == "server":
            if not session.has_reply:
                self.server.note_beaten([session.host])
            repeated.warn(
                *(_log, f"udp refused {self._settings.name}"),
                "udp {listener}: {server} refuses datagrams (ICMP: port unreachable); start the server, or"
                ' correct "server"',
                **self._names,
            )

    def ended(self, session: UdpSession, reason: EndReason) -> None:
        """The session has ended, and its sockets are closed."""
        self._sessions.pop(session.flow.address, None)
        self._admission.leave(session.address)
        if reason is EndReason.UPSTREAM_UNAVAILABLE:
            self._unanswered.note(session.flow.address, session.host)
        if debugging.enabled and not session.flow.is_proven:
            _log.debug(
                "session {alias} of {address} by UDP ended unproven: {reason}",
                alias=session.alias,
                address=session.address,
                reason=reason.value,
            )
        self._telemetry.session_ended(session, reason)

    def _close(self, flow: Flow) -> None:
        """Close the session of a flow that the table has ended."""
        session = self._sessions.get(flow.address)
        if session is not None and flow.ended is not None:
            session.close(flow.ended)

    @property
    def _names(self) -> dict[str, str]:
        return {"listener": self._settings.name, "server": self.server.name}


def _refusal(error: OSError) -> RequestRefused:
    if error.errno == EADDRINUSE:
        return OpeningFailed(_USED)
    if error.errno in CAUSES:
        cause, _, advice = CAUSES[error.errno].partition("; ")
        return ResourcesExhausted(cause, advice)
    return OpeningFailed(f"a socket cannot be opened: {error.strerror}")
