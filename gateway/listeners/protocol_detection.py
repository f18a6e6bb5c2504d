"""Protocol detection on accepted connections, and handover to the protocol found.

    [PROXY header, if the listener expects one]  →  first bytes  →  RTMP, RTMPE  raw relay
                                                                    HTTP         tunnel commands, website
                                                                    TLS          handshake, detection again
                                                                    policy file  the policy, then closed
                                                                    other        closed, nothing sent

Every listener accepts every protocol: clients try one port and protocol after the other, and each failed
attempt can cost a viewer 20 seconds. TLS requires a listener with certificates. The PROXY protocol is never
detected: a listener expects a header or not, and accepts it from trusted networks only.

Deadlines are absolute: one until the first bytes, one for the TLS handshake, one until the first bytes
inside TLS. Each connection is counted once, by its protocol or by the reason for its refusal; completed
TLS handshakes are counted in addition.
"""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Callable
from math import inf
from typing import Any, Final, final

from attrs import define, field
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.errors import BadProxyHeader
from gateway.listeners.connections import ConnectionSet
from gateway.logs import debugging
from gateway.protocols.limits import Limits
from gateway.protocols.networks import Admission, Networks
from gateway.protocols.proxy import ProxyHeaderReader
from gateway.protocols.sniff import WireProtocol, wire_protocol_of
from gateway.tls import TLSConnection, of_server

# Prefix of an IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2).
_MAPPED = "::ffff:"
_log = Logger()


@define
class ListenerState:
    """State shared by all connections of one listener.

    ``http(address, secure, first)`` returns the protocol for an HTTP connection; ``first`` are the bytes
    read so far. ``relay(address, transport, first, on_lost)`` takes over an RTMP connection, and calls
    ``on_lost`` when the transport is lost. ``context(first)`` returns the TLS context for a ClientHello; it
    is None on a listener without certificates. ``counts`` are connections by protocol, or by reason for
    refusal.
    """

    limits: Limits
    connections: ConnectionSet
    http: Callable[[str, bool, bytes], Any]
    relay: Callable[[str, Any, bytes, Callable[[], None]], None]
    clock: Callable[[], float]
    admission: Admission
    trusted: Networks
    proxy_protocol: bool = False
    context: Callable[[bytes], ssl.SSLContext] | None = None
    counts: Counter[str] = field(factory=Counter)
    # The listener's address, as logs show it.
    name: str = ""
    # Returns the answer to a request for the policy of sockets (``flash_policy``); empty if there is none.
    socket_policy: Callable[[], bytes] = bytes

    def refusal(self, address: str) -> str | None:
        """The reason to refuse a connection from ``address``, as a key of ``counts``; None to accept."""
        if self.proxy_protocol:
            # The client's address follows in the header.
            if address and not self.trusted.holds(address):
                return "untrusted_proxy"
            return None if self.connections.has_room() else "full"
        return self.refusal_of_client(address)

    def refusal_of_client(self, address: str) -> str | None:
        """As ``refusal``, for the address of the client itself."""
        if self.trusted.holds(address):
            # A proxy carries requests of many clients; each request's client is checked separately.
            return None if self.connections.has_room() else "full"
        if not self.admission.permits(address):
            return "denied"
        return None if self.connections.has_room(address) else "full"


@final
class Listener(ServerFactory):
    """Twisted's factory of one listening port."""

    noisy = False

    def __init__(self, listener_state: ListenerState) -> None:
        self.listener_state = listener_state

    def buildProtocol(self, addr: Any) -> ProtocolDetection | None:  # type: ignore[override]
        """The protocol of a new connection; None closes it (IProtocolFactory)."""
        address = _address_of(addr)
        cause = self.listener_state.refusal(address)
        if cause is not None:
            self.listener_state.counts[cause] += 1
            if debugging.enabled:
                _debug("refused: {what}", self.listener_state, address, cause)
            return None
        return ProtocolDetection(self.listener_state, address)


def _address_of(peer: Any) -> str:
    """The IP address of Twisted's ``peer``, or "" if it has none. IPv4-mapped addresses become IPv4."""
    host: str = getattr(peer, "host", "")
    mapped = host.removeprefix(_MAPPED)
    return mapped if "." in mapped else host


@final
@implementer(IProtocol)
class ProtocolDetection:
    """The initial protocol of a connection, and of the stream inside TLS (``secure``).

    While a relay uses the connection, this object only represents it in the worker's connection set.
    """

    __slots__ = (
        "_counted",
        "_first",
        "_handshaking",
        "_listener_state",
        "_proxy",
        "_secure",
        "_transport",
        "address",
        "deadline",
    )

    def __init__(self, listener_state: ListenerState, address: str, secure: bool = False) -> None:
        self._listener_state = listener_state
        self._secure = secure
        self._first = b""
        self._handshaking = False
        self._counted = False
        self._proxy = ProxyHeaderReader() if listener_state.proxy_protocol and not secure else None
        self._transport: Any = None
        self.address = address
        self.deadline = listener_state.clock() + listener_state.limits.first_bytes_s

    # The transport calls

    def makeConnection(self, transport: Any) -> None:
        self._transport = transport
        self._listener_state.connections.add(self)

    def connectionMade(self) -> None:
        """Part of IProtocol; ``makeConnection`` has done the work."""

    def dataReceived(self, data: bytes) -> None:
        if self._proxy is not None:
            data = self._read_proxy_header(self._proxy, data)
        if not data:
            return
        self._first += data
        protocol = wire_protocol_of(self._first)
        if protocol is not None:
            _HAND_OVER[protocol](self)

    def connectionLost(self, reason: Failure) -> None:
        if self._handshaking:
            self._count("tls_failed", detail=_cause_of(reason))
        else:
            self._count("left")
        self._leave()

    # The sweep calls

    def expire(self, now: float) -> None:
        """``deadline`` has passed."""
        if self._handshaking:
            self._refuse("tls_failed", detail="the client took too long")
        else:
            self._refuse("silent")

    # PROXY header

    def _read_proxy_header(self, reader: ProxyHeaderReader, data: bytes) -> bytes:
        """The bytes of ``data`` after the header; b"" while it is incomplete or after it was refused."""
        try:
            used = reader.receive(data)
        except BadProxyHeader as error:
            self._refuse("bad_proxy_header", detail=str(error))
            return b""
        if reader.header is None:
            return b""
        self._proxy = None
        source = reader.header.source
        # Without a source in the header (LOCAL, UNKNOWN), the peer's address is the client's.
        return (
            data[used:]
            if self._set_client_address(source.address if source else self.address)
            else b""
        )

    def _set_client_address(self, address: str) -> bool:
        """Set the client's address, and return whether the connection is accepted."""
        self._leave()
        self.address = address
        cause = self._listener_state.refusal_of_client(address)
        self._listener_state.connections.add(self)
        if cause is not None:
            self._refuse(cause)
        return cause is None

    def _leave(self) -> None:
        self._listener_state.connections.remove(self)

    # Handover, by protocol

    def _speak_http(self) -> None:
        protocol = self._listener_state.http(self.address, self._secure, self._first)
        self._hand_over(protocol, "http")

    def _speak_rtmp(self) -> None:
        if not self._listener_state.admission.permits(self.address):
            # A trusted proxy's own address: RTMP carries no client address.
            self._refuse("denied")
            return
        self._count("rtmp")
        self.deadline = inf
        self._listener_state.relay(self.address, self._transport, self._take_first(), self._leave)

    def _speak_tls(self) -> None:
        if self._listener_state.context is None or self._secure:
            self._speak_unknown()
            return
        self.deadline = self._listener_state.clock() + self._listener_state.limits.tls_handshake_s
        self._handshaking = True
        # This object stays in the connection set, with its deadline, until the handshake is complete.
        context = self._listener_state.context(self._first)
        tls = TLSConnection(of_server(context), self._handshaken)
        tls.protocol = self
        self._transport.protocol = tls
        tls.makeConnection(self._transport)
        tls.dataReceived(self._take_first())

    def _handshaken(self, tls: TLSConnection) -> None:
        self._count("tls")
        self._leave()
        inside = ProtocolDetection(self._listener_state, self.address, secure=True)
        tls.protocol = inside
        inside.makeConnection(tls)

    def _speak_policy(self) -> None:
        policy = self._listener_state.socket_policy()
        if not policy:
            self._speak_unknown()
            return
        self._count("policy")
        self._transport.write(policy)
        # A client that does not read it is aborted at the deadline of its first bytes.
        self._transport.loseConnection()

    def _speak_unknown(self) -> None:
        self._refuse("unknown")

    def _hand_over(self, protocol: Any, name: str) -> None:
        self._count(name)
        self._leave()
        self._transport.protocol = protocol
        protocol.makeConnection(self._transport)
        protocol.dataReceived(self._take_first())

    def _take_first(self) -> bytes:
        first, self._first = self._first, b""
        return first

    def _refuse(self, cause: str, detail: str = "") -> None:
        self._count(cause, detail)
        self.deadline = inf
        self._transport.abortConnection()

    def _count(self, name: str, detail: str = "") -> None:
        """Count the connection under ``name``, unless it has been counted before."""
        if not self._counted:
            self._counted = True
            self._listener_state.counts[name] += 1
            if debugging.enabled:
                text = _WORDS.get(name, "speaks {what}")
                _debug(
                    text, self._listener_state, self.address, name, detail, " in TLS" * self._secure
                )


def _debug(
    text: str,
    listener_state: ListenerState,
    address: str,
    what: str,
    detail: str = "",
    where: str = "",
) -> None:
    """Log at level debug. Callers check ``debugging.enabled`` first."""
    _log.debug(
        "connection from {address} on {listener}{where}: " + text + "{log_detail}",
        address=address or "a local client",
        listener=listener_state.name,
        what=what.replace("_", " "),
        where=where,
        detail=detail,
        log_detail=f": {detail}" if detail else "",
    )


def _cause_of(failure: Failure) -> str:
    """The reason for a failed handshake: OpenSSL's, or that of the connection loss."""
    error = failure.value
    if isinstance(error, ssl.SSLError) and error.reason:
        return str(error.reason)
    return str(error).rstrip(".")


# Log texts by name in ``counts``; every other name is a protocol.
_WORDS: Final = {
    "tls": "TLS handshake done",
    "tls_failed": "TLS handshake failed",
    "left": "closed before its protocol was known",
    "silent": "closed: it sent nothing in time",
    "unknown": "closed: its first bytes are no protocol of this listener",
    **dict.fromkeys(("bad_proxy_header", "denied", "full", "untrusted_proxy"), "refused: {what}"),
}

_HAND_OVER: dict[WireProtocol, Callable[[ProtocolDetection], None]] = {
    WireProtocol.HTTP: ProtocolDetection._speak_http,
    WireProtocol.RTMP: ProtocolDetection._speak_rtmp,
    WireProtocol.RTMPE: ProtocolDetection._speak_rtmp,
    WireProtocol.TLS: ProtocolDetection._speak_tls,
    WireProtocol.POLICY: ProtocolDetection._speak_policy,
    WireProtocol.UNKNOWN: ProtocolDetection._speak_unknown,
}
