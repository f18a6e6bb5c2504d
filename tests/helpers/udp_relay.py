"""A UDP listener on loopback, in a reactor that runs inside calls, with clients and a server as sockets."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Any

from gateway.addresses import ServerAddress, TcpAddress
from gateway.dispatch import dispatch_directly
from gateway.errors import RequestRefused
from gateway.protocols.limits import Limits
from gateway.protocols.reasons import EndReason
from gateway.protocols.udp_flows import FlowLimits
from gateway.tunnels.admission import Admission
from gateway.udp import sockets
from gateway.udp.listener import UdpListener, UdpSettings
from gateway.udp.session import UdpSession
from gateway.upstreams.dial import Server
from tests.helpers.own_count import OwnCount
from tests.helpers.turning import Turning

LIMITS = FlowLimits(flows=50, flows_per_client=40, datagram_bytes=1500, idle_s=60.0, proof_s=10.0)


def udp_socket(host: str = "127.0.0.1") -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    opened.bind((host, 0))
    return opened


class Reports:
    """What telemetry is told."""

    def __init__(self) -> None:
        self.opened: list[UdpSession] = []
        self.ended: list[EndReason] = []
        self.refused: list[RequestRefused] = []

    def session_opened(self, session: UdpSession) -> None:
        self.opened.append(session)

    def session_ended(self, session: UdpSession, reason: EndReason) -> None:
        self.ended.append(reason)

    def open_refused(self, error: RequestRefused, address: str, ingress: Any) -> None:
        self.refused.append(error)


class Relay:
    """``place``: where clients send to. ``server``: the socket of the server behind it."""

    def __init__(
        self, limits: FlowLimits = LIMITS, host: str = "127.0.0.1", header: bool = False
    ) -> None:
        self.turning = Turning()
        dispatch_directly(self.turning.reactor)
        self.limits = limits
        self.header = header
        self.now = 0.0
        self.reports = Reports()
        self.admission = Admission(Limits(sessions=45), 1 << 30, OwnCount())
        loopback = "::1" if ":" in host else "127.0.0.1"
        self.server = udp_socket(loopback)
        self.listening = sockets.listen(TcpAddress(host, 0))
        self.place = (loopback, self.listening.getsockname()[1])
        self.clients: list[socket.socket] = []
        self.listener = self.new_listener()

    def new_listener(self) -> UdpListener:
        """A listener on a copy of the listening socket, as another worker has."""
        server = Server(ServerAddress(*self.server.getsockname()[:2]), "udp")
        server._hosts = [self.server.getsockname()[0]]
        aliases = (f"0000-{number}" for number in range(1, 1000))
        listener = UdpListener(
            UdpSettings(
                "relay", self.limits, 65536, self.header, lambda host: host != "127.0.0.66"
            ),
            *(self.turning.reactor, server, self.admission, self.reports),
            *(aliases.__next__, lambda: self.now),
        )
        listener.adopt(os.dup(self.listening.fileno()))
        listener.start()
        return listener

    def add_silent_address(self) -> socket.socket:
        """Give the server a second address, which is the first that is tried. It answers nothing."""
        silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        silent.bind(("127.0.0.2", self.server.getsockname()[1]))
        self.clients.append(silent)
        self.listener.server.use(["127.0.0.1", "127.0.0.2"])
        return silent

    def client(self, host: str = "127.0.0.1") -> socket.socket:
        opened = udp_socket(host)
        self.clients.append(opened)
        return opened

    def read(self, receiver: socket.socket) -> tuple[bytes, Any]:
        """The next datagram, and its source."""
        found: list[tuple[bytes, Any]] = []

        def receive() -> bool:
            with suppress(BlockingIOError):
                found.append(receiver.recvfrom(65536))
            return bool(found)

        self.turning.until(receive)
        return found[0]

    def connect(self, client: socket.socket) -> Any:
        """Prove the client's address. Returns that of its session at the server."""
        client.sendto(b"hello", self.place)
        _, flow = self.read(self.server)
        self.server.sendto(b"reply", flow)
        self.read(client)
        client.sendto(b"answer", self.place)
        self.read(self.server)
        return flow

    def close(self) -> None:
        self.listener.end_all(EndReason.DRAINED)
        self.listener.stop_listening()
        for each in (*self.clients, self.server, self.listening):
            each.close()
        self.turning.close()
