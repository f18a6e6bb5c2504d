"""One client's session: its flow, and the two sockets that datagrams pass between.

Each datagram read is written at once, by one call. Nothing is queued here: a datagram that the other socket
does not take is dropped, as on any network. The queues are the sockets' own, whose sizes are limited.
"""

from __future__ import annotations

import socket
from typing import Any, Final, Protocol, final

from gateway.protocols.ingress import Ingress
from gateway.protocols.reasons import EndReason
from gateway.protocols.udp_flows import Address, Flow, FlowTable
from gateway.udp.reader import DatagramReader

# Datagrams of one socket in one turn of the reactor; then others have their turn.
_AT_ONCE: Final = 64


class Listener(Protocol):
    """The part of a listener that its sessions use. ``buffer`` is for one datagram, and one byte more."""

    table: FlowTable
    buffer: bytearray

    def clock(self) -> float: ...

    def received(self, data: bytes, client: Address, local: str) -> None:
        """A datagram of another client has reached the session's socket."""

    def proven(self, session: UdpSession) -> None:
        """The client has proved its address."""

    def replied(self, session: UdpSession) -> None:
        """The server has answered for the first time."""

    def refused(self, session: UdpSession, side: str) -> None:
        """An ICMP message has refused a datagram; ``side``: "client" or "server"."""

    def ended(self, session: UdpSession, reason: EndReason) -> None:
        """The session has ended."""


@final
class UdpSession:
    """``alias``: its name in logs and on the status page. ``server``: the server's name there, and ``host``
    the address that was chosen. ``header``: what each datagram to the server begins with.
    """

    __slots__ = (
        "_client",
        "_header",
        "_listener",
        "_local",
        "_server",
        "_view",
        "address",
        "alias",
        "flow",
        "has_reply",
        "host",
        "ingress",
        "opened_at",
        "server",
    )

    # For telemetry. Latencies are not measured: no datagram waits here, and their content is not known.
    figures = opening_fields = None
    sends = idles = closes = holds = empty_answers = filled_answers = repeats = early = 0
    streamed_answers = streamed_bytes = buffered_bytes = 0
    streamed_s = 0.0
    streaming = ""
    moments = (0, 0)

    def __init__(
        self,
        listener: Listener,
        flow: Flow,
        alias: str,
        ingress: Ingress,
        server: str,
        host: str,
        sockets: tuple[socket.socket, socket.socket],
        header: bytes,
        reactor: Any,
    ) -> None:
        self._listener = listener
        self.flow = flow
        self.alias = alias
        self.ingress = ingress
        self.server = server
        self.host = host
        self._header = header
        self.address = flow.address[0]
        self.opened_at = flow.opened_at
        self.has_reply = False
        client, upstream = sockets
        self._local = client.getsockname()[0]
        self._view = memoryview(listener.buffer)
        self._client = DatagramReader(reactor, client, self._read_client, self._client_failed)
        self._server = DatagramReader(reactor, upstream, self._read_server, self._server_failed)

    def start(self) -> None:
        """Read datagrams from now on."""
        self._client.start()
        self._server.start()

    # Called by telemetry and the admin server

    @property
    def counted(self) -> UdpSession:
        """The object with the counters: the session itself."""
        return self

    @property
    def bytes_up(self) -> int:
        return self.flow.bytes_up

    @property
    def bytes_down(self) -> int:
        return self.flow.bytes_down

    @property
    def position(self) -> str:
        """As a session's state: "ordinary" or "ended"."""
        return "ended" if self.flow.ended else "ordinary"

    def hold_upstream(self, on: bool) -> None:
        """Nothing: only publishers that the gateway has recognised are held."""

    def dismiss(self, reason: EndReason) -> None:
        """End the session."""
        self.end(reason)

    # Called by the listener

    def pass_up(self, data: bytes | memoryview, now: float) -> None:
        """A datagram of the client: to the server, if it may pass."""
        table, flow = self._listener.table, self.flow
        was_proven = flow.is_proven
        if table.receive(flow, data, now) is not None:
            return
        try:
            self._server.socket.send(self._header + data if self._header else data)
        except OSError as error:
            table.not_sent(flow, len(data), True)
            if isinstance(error, ConnectionRefusedError):
                self._server_failed(error)
                return
        if flow.is_proven and not was_proven:
            self._listener.proven(self)

    def end(self, reason: EndReason) -> None:
        """End the session, once."""
        if self.flow.ended is None:
            self._listener.table.end(self.flow, reason)
            self.close(reason)

    def close(self, reason: EndReason) -> None:
        """Close the sockets of a flow that has ended."""
        self._client.close()
        self._server.close()
        self._listener.ended(self, reason)

    # Called by the readers

    def _read_client(self) -> None:
        flow, view = self.flow, self._view
        receive, address = self._client.socket.recvfrom_into, flow.address
        now = self._listener.clock()
        for _ in range(_AT_ONCE):
            try:
                size, source = receive(view)
            except BlockingIOError:
                return
            except OSError as error:
                self._client_failed(error)
                return
            if source == address:
                self.pass_up(view[:size], now)
            else:
                self._listener.received(bytes(view[:size]), source, self._local)
            if flow.ended is not None:
                return

    def _read_server(self) -> None:
        table, flow, view = self._listener.table, self.flow, self._view
        receive, send = self._server.socket.recv_into, self._client.socket.send
        for _ in range(_AT_ONCE):
            try:
                size = receive(view)
            except BlockingIOError:
                return
            except OSError as error:
                self._server_failed(error)
                return
            if not self.has_reply:
                self.has_reply = True
                self._listener.replied(self)
            if table.reply(flow, size) is None:
                try:
                    send(view[:size])
                except OSError as error:
                    table.not_sent(flow, size, False)
                    if isinstance(error, ConnectionRefusedError):
                        self._client_failed(error)
                        return

    def _client_failed(self, error: BaseException | None) -> None:
        self._failed("client", error, EndReason.CLIENT_LOST)

    def _server_failed(self, error: BaseException | None) -> None:
        lost = EndReason.UPSTREAM_LOST if self.has_reply else EndReason.UPSTREAM_UNAVAILABLE
        self._failed("server", error, lost)

    def _failed(self, side: str, error: BaseException | None, lost: EndReason) -> None:
        if isinstance(error, ConnectionRefusedError):
            self._listener.refused(self, side)
        self.end(lost if isinstance(error, OSError) else EndReason.FAULT)
