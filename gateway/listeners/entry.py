"""A connection from its acceptance until it is known what it speaks; then it is handed over.

    [PROXY header, where the listener has it]  →  first bytes  →  RTMP, RTMPE   the raw relay
                                                                 HTTP          tunnel commands, web site
                                                                 TLS           the handshake, and once more
                                                                 anything else closed, nothing sent

Every listener takes whatever arrives: clients try one port and way after the other, and each dead try can
cost a viewer 20 seconds. TLS needs a listener with certificates. The PROXY protocol is never guessed: a
listener has it or not, and believes the networks it names.

The deadline is absolute: one for everything up to the first bytes, one for the handshake, and one more for
the first bytes inside. What a connection turned out to be, or why it did not come in, is counted once; a
handshake that is done is counted besides.
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
from gateway.listeners.tls import TLSConnection
from gateway.logs import debugging
from gateway.protocols.limits import Limits
from gateway.protocols.networks import Admission, Networks
from gateway.protocols.proxy import ProxyHeaderReader
from gateway.protocols.sniff import Speech, speech_of

# How the system writes an IPv4 address that comes in at an IPv6 socket (RFC 4291, 2.5.5.2).
_MAPPED = "::ffff:"
_log = Logger()


@define
class Door:
    """What all connections of one listener share.

    ``http`` makes the protocol for a client's address, within TLS or not; ``relay`` takes a client's
    address, its transport, its first bytes, which have been read already, and whom to tell when the
    transport is lost, if it has taken its loss upon itself by making a protocol of its own the
    transport's. ``context`` gives the TLS context for a client's first bytes, and is None without
    certificates. ``counts`` are connections by what they turned out to be.
    """

    limits: Limits
    connections: ConnectionSet
    http: Callable[[str, bool], Any]
    relay: Callable[[str, Any, bytes, Callable[[], None]], None]
    clock: Callable[[], float]
    admission: Admission
    trusted: Networks
    proxy_protocol: bool = False
    context: Callable[[bytes], ssl.SSLContext] | None = None
    counts: Counter[str] = field(factory=Counter)
    # The listener's address, as logs show it.
    name: str = ""

    def refusal(self, address: str) -> str | None:
        """Why a connection from ``address`` may not come in, in a word; None when it may."""
        if self.proxy_protocol:
            # The client's own address is known once the header is read.
            if address and not self.trusted.holds(address):
                return "untrusted_proxy"
            return None if self.connections.has_room() else "full"
        return self.refusal_of_client(address)

    def refusal_of_client(self, address: str) -> str | None:
        """As ``refusal``, for the client's own address."""
        if self.trusted.holds(address):
            # Its requests are those of many clients, each of which is asked about by itself.
            return None if self.connections.has_room() else "full"
        if not self.admission.permits(address):
            return "denied"
        return None if self.connections.has_room(address) else "full"


@final
class Listener(ServerFactory):
    """Twisted's factory of one listening port."""

    noisy = False

    def __init__(self, door: Door) -> None:
        self.door = door

    def buildProtocol(self, addr: Any) -> Entry | None:  # type: ignore[override]
        """The protocol of a new connection; None closes it (Twisted's IProtocolFactory)."""
        address = _address_of(addr)
        cause = self.door.refusal(address)
        if cause is not None:
            self.door.counts[cause] += 1
            if debugging.enabled:
                _debug("refused: {what}", self.door, address, cause)
            return None
        return Entry(self.door, address)


def _address_of(peer: Any) -> str:
    """The IP address of Twisted's ``peer``, "" if it has none.

    An IPv4 client of an IPv6 listener is the same client as one of an IPv4 listener.
    """
    host: str = getattr(peer, "host", "")
    mapped = host.removeprefix(_MAPPED)
    return mapped if "." in mapped else host


@final
@implementer(IProtocol)
class Entry:
    """The first protocol of a connection, and of what is inside its TLS (``secure``).

    While a relay has the connection, this only keeps its place among the worker's connections.
    """

    __slots__ = (
        "_counted",
        "_door",
        "_first",
        "_handshaking",
        "_proxy",
        "_secure",
        "_transport",
        "address",
        "deadline",
    )

    def __init__(self, door: Door, address: str, secure: bool = False) -> None:
        self._door = door
        self._secure = secure
        self._first = b""
        self._handshaking = False
        self._counted = False
        self._proxy = ProxyHeaderReader() if door.proxy_protocol and not secure else None
        self._transport: Any = None
        self.address = address
        self.deadline = door.clock() + door.limits.first_bytes_s

    # The transport calls

    def makeConnection(self, transport: Any) -> None:
        self._transport = transport
        self._door.connections.add(self)

    def connectionMade(self) -> None:
        """Part of IProtocol; ``makeConnection`` has done what there is to do."""

    def dataReceived(self, data: bytes) -> None:
        if self._proxy is not None:
            data = self._read_proxy_header(self._proxy, data)
        if not data:
            return
        self._first += data
        speech = speech_of(self._first)
        if speech is not None:
            _HAND_OVER[speech](self)

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

    # What comes before the first bytes

    def _read_proxy_header(self, reader: ProxyHeaderReader, data: bytes) -> bytes:
        """What of ``data`` is behind the header."""
        try:
            used = reader.receive(data)
        except BadProxyHeader as error:
            self._refuse("bad_proxy_header", detail=str(error))
            return b""
        if reader.header is None:
            return b""
        self._proxy = None
        source = reader.header.source
        # A header without a source leaves the connection's own address to be the client's.
        return data[used:] if self._come_from(source.address if source else self.address) else b""

    def _come_from(self, address: str) -> bool:
        """The client's own address is known: whether it may come in."""
        self._leave()
        self.address = address
        cause = self._door.refusal_of_client(address)
        self._door.connections.add(self)
        if cause is not None:
            self._refuse(cause)
        return cause is None

    def _leave(self) -> None:
        self._door.connections.remove(self)

    # What the connection speaks

    def _speak_http(self) -> None:
        self._hand_over(self._door.http(self.address, self._secure), "http")

    def _speak_rtmp(self) -> None:
        if not self._door.admission.permits(self.address):
            # A trusted proxy, which names no client in RTMP.
            self._refuse("denied")
            return
        self._count("rtmp")
        self.deadline = inf
        self._door.relay(self.address, self._transport, self._take_first(), self._leave)

    def _speak_tls(self) -> None:
        if self._door.context is None or self._secure:
            self._speak_unknown()
            return
        self.deadline = self._door.clock() + self._door.limits.tls_handshake_s
        self._handshaking = True
        # Until the handshake is done, this entry keeps its place, and its deadline runs.
        tls = TLSConnection(self._door.context(self._first), self._handshaken)
        tls.protocol = self
        self._transport.protocol = tls
        tls.makeConnection(self._transport)
        tls.dataReceived(self._take_first())

    def _handshaken(self, tls: TLSConnection) -> None:
        self._count("tls")
        self._leave()
        inside = Entry(self._door, self.address, secure=True)
        tls.protocol = inside
        inside.makeConnection(tls)

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
        """Count what the connection turned out to be; its end tells nothing more."""
        if not self._counted:
            self._counted = True
            self._door.counts[name] += 1
            if debugging.enabled:
                text = _WORDS.get(name, "speaks {what}")
                _debug(text, self._door, self.address, name, detail, " in TLS" * self._secure)


def _debug(
    text: str, door: Door, address: str, what: str, detail: str = "", where: str = ""
) -> None:
    """Log at level debug; callers test ``debugging.enabled`` before."""
    _log.debug(
        "connection from {address} on {listener}{where}: " + text + "{log_detail}",
        address=address or "a local client",
        listener=door.name,
        what=what.replace("_", " "),
        where=where,
        detail=detail,
        log_detail=f": {detail}" if detail else "",
    )


def _cause_of(failure: Failure) -> str:
    """Why a handshake failed: OpenSSL's reason, or the loss of the connection."""
    error = failure.value
    if isinstance(error, ssl.SSLError) and error.reason:
        return str(error.reason)
    return str(error).rstrip(".")


# By what the door counts; of all other names, the connection speaks them.
_WORDS: Final = {
    "tls": "TLS handshake done",
    "tls_failed": "TLS handshake failed",
    "left": "closed before it said what it speaks",
    "silent": "closed: it said nothing in time",
    "unknown": "closed: its first bytes are no protocol of this listener",
    **dict.fromkeys(("bad_proxy_header", "denied", "full", "untrusted_proxy"), "refused: {what}"),
}

_HAND_OVER: dict[Speech, Callable[[Entry], None]] = {
    Speech.HTTP: Entry._speak_http,
    Speech.RTMP: Entry._speak_rtmp,
    Speech.RTMPE: Entry._speak_rtmp,
    Speech.TLS: Entry._speak_tls,
    Speech.UNKNOWN: Entry._speak_unknown,
}
