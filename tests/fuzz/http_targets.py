"""Targets of the readers of HTTP: requests, and responses of proxies, websites and RTMPT servers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_network
from typing import Any

from gateway.admin.http.access_control import AccessControl
from gateway.admin.http.problems import Problem
from gateway.admin.resources.queries import (
    SESSION_PARAMETERS,
    parse_level,
    parse_query,
    session_query,
)
from gateway.errors import BadRequest, BadResponse, RequestRefused
from gateway.protocols import forwarding
from gateway.protocols.client_address import client_address
from gateway.protocols.commands import command_of, resource_path
from gateway.protocols.cross_origin import CrossOrigin
from gateway.protocols.http import Fields, RequestReader
from gateway.protocols.limits import Limits
from gateway.protocols.networks import Networks
from gateway.protocols.offers import session_of_first_request
from gateway.protocols.port_test.resources import is_of_port_test, resource_of
from gateway.protocols.proxy_client.authentication import Authentication
from gateway.protocols.proxy_client.connecting import Connecting
from gateway.protocols.proxy_client.digest import Credentials
from gateway.protocols.proxy_client.forwarding import ForwardedRequests
from gateway.protocols.responses import ResponseReader
from gateway.protocols.tunnel_client.client import TunnelClient
from gateway.protocols.tunnel_client.interfaces import End
from gateway.protocols.tunnel_client.requests import Requests
from gateway.protocols.tunnel_options import asks_to_resume, idle_body, read_idle
from tests.fuzz.inputs import in_pieces
from tests.fuzz.target import Target

_TRUSTED = Networks.of([ip_network("0.0.0.0/0"), ip_network("::/0")])
_LIMITS = Limits()


def _requests(pieces: Iterator[bytes]) -> tuple[list[Any], str]:
    """Each request's method, target, fields and body; and the error that ended the connection."""
    reader, found = RequestReader(Limits()), []
    try:
        for piece in pieces:
            reader.receive(piece)
            while reader.in_body or reader.next_head():
                body = reader.whole_body()
                if body is None:
                    break
                found.append((reader.method, reader.target, body))
    except BadRequest as error:
        return found, type(error).__name__
    return found, ""


def _http(data: bytes) -> None:
    found, error = _requests(in_pieces(data))
    expected, its_error = _requests(iter([data[1:]]))
    assert found == expected
    assert bool(error) == bool(its_error)


def _forwarded_answers(pieces: Iterator[bytes], count: int) -> tuple[bytes, str, object]:
    """What is passed on of a proxy's responses, the error that ended them, and the outcome."""
    known = Authentication(Credentials("ann", "secret"), lambda: "cnonce")
    requests, passed = ForwardedRequests(known, Limits(), is_opening=True), b""
    for _ in range(count):
        requests.head(_FORWARDED, b"")
    try:
        for piece in pieces:
            received = requests.receive(piece)
            passed += received.data
            if received.outcome is not None:
                return passed, "", received.outcome
    except BadResponse as error:
        return passed, type(error).__name__, None
    return passed, "", None


def _proxy(data: bytes) -> None:
    connecting = Connecting("host:443", Authentication(None, lambda: "cnonce"), Limits())
    with suppress(BadResponse):
        connecting.request()
        connecting.receive(data[1:])
    count = min(len(data) // _LEAST_RESPONSE_BYTES + 1, _MOST_REQUESTS)
    found, error, outcome = _forwarded_answers(in_pieces(data), count)
    expected, its_error, its_outcome = _forwarded_answers(iter([data[1:]]), count)
    assert (bool(error), outcome) == (bool(its_error), its_outcome)
    # In pieces, more has been passed on before an error.
    assert error or found == expected


def _heads(data: bytes) -> None:
    """All that is read in the head of a request, beside its own syntax."""
    reader = RequestReader(_LIMITS)
    reader.receive(data)
    session_of_first_request(data, _LIMITS)
    with suppress(BadRequest):
        for _ in range(100):
            fields = reader.next_head()
            if fields is None:
                return
            _read_fields(reader.method, reader.target, fields)
            while reader.next_piece():
                pass


def _read_fields(method: bytes, target: bytes, fields: Fields) -> None:
    items = fields.items
    client = client_address(items, "192.0.2.1", _TRUSTED)
    request = forwarding.Request(method, target, fields, client, False, True, client)
    with suppress(BadRequest):
        head = forwarding.request_head(request, b"server")
        forwarded = RequestReader(Limits(head_bytes=1 << 20))
        forwarded.receive(head)
        assert forwarded.next_head() is not None, head
        assert not forwarded.buffer
    command_of(method, target)
    asks_to_resume(items)
    CrossOrigin(("*",)).of_preflight(items)
    with suppress(RequestRefused):
        if is_of_port_test(target):
            resource_of(method, target)
    _read_for_admin(method, target, fields)


def _read_for_admin(method: bytes, target: bytes, fields: Fields) -> None:
    names = {
        name.decode("ascii"): value.decode("utf-8", "surrogateescape")
        for name, value in fields.items
    }
    with suppress(Problem):
        AccessControl(b"token").check(method.decode("ascii"), "http", names.get)
    with suppress(Problem):
        parameters = parse_query(target.partition(b"?")[2], SESSION_PARAMETERS)
        session_query(parameters)
    assert len(resource_path(target)) <= len(target)


def _bodies(data: bytes) -> None:
    """The bodies that are read: of idles, and of changes by the admin server."""
    idle = read_idle(data)
    if idle.figures is not None:
        read_idle(idle_body(idle.open or 0, idle.whole, idle.figures))
    with suppress(Problem):
        parse_level(data, ("info", "debug"))


def _responses(pieces: Iterator[bytes], to_head: bool) -> tuple[list[Any], bytes, str]:
    """The heads of the response, its body, and the error that ended the connection."""
    reader, heads, body = ResponseReader(_LIMITS, to_head), [], b""
    try:
        for piece in pieces:
            reader.receive(piece)
            while (head := reader.next_head()) is not None:
                heads.append(head)
            while part := reader.next_piece():
                body += part
            if reader.ended:
                break
    except BadResponse as error:
        return heads, body, type(error).__name__
    return heads, body, ""


def _website(data: bytes) -> None:
    """The response of a website, or of a proxy, to one request."""
    for to_head in (False, True):
        heads, body, error = _responses(in_pieces(data), to_head)
        for head in heads:
            framing = forwarding.framing_to(1, head)
            sent = forwarding.response_head(head, framing, 1, closes=False)
            assert sent.count(b"\r\n\r\n") == 1
        its_heads, its_body, its_error = _responses(iter([data[1:]]), to_head)
        assert heads == its_heads
        assert bool(error) == bool(its_error)
        # In pieces, more has been passed on before an error.
        assert body == its_body or error


class _Session:
    """A session's user, and its connections, which are established at once."""

    def __init__(self) -> None:
        self.received_bytes = 0
        self.ends: list[End] = []
        self.wanted: list[int] = []
        self.links: list[int] = []
        self.client = TunnelClient(_LIMITS, Requests("host"), self, self)

    def connect_link(self, link: int) -> None:
        self.wanted.append(link)

    def write_link(self, link: int, first: bytes, second: bytes) -> None: ...

    def unacknowledged_on(self, link: int) -> int:
        return 0

    def close_link(self, link: int) -> None:
        self.links = [each for each in self.links if each != link]

    def opened(self) -> None: ...

    def received(self, data: bytes) -> None:
        self.received_bytes += len(data)

    def drained(self) -> None: ...

    def ended(self, end: End, cause: str) -> None:
        self.ends.append(end)

    def connect(self, now: float) -> None:
        wanted, self.wanted = self.wanted, []
        for link in wanted:
            self.links.append(link)
            self.client.connected(link, now)

    def fill(self, now: float) -> None:
        """Send commands until there is no room for another."""
        for _ in range(_MOST_COMMANDS):
            if self.client.unsent:
                break
            self.client.write(b"x", now)

    def receive(self, number: int, piece: bytes, now: float) -> None:
        """The connections receive in turn."""
        self.connect(now)
        if self.links:
            self.client.receive(self.links[number % len(self.links)], piece, now)


def _tunnel(data: bytes) -> None:
    """An RTMPT server, which may have opened the session. Commands are always under way."""
    session, now = _Session(), 0.0
    session.client.start(now)
    agreed = _AGREEMENTS[data[0] % len(_AGREEMENTS) if data else 0]
    if agreed is not None:
        session.receive(0, _OPENED % agreed, now)
    for number, piece in enumerate(in_pieces(data)):
        session.fill(now)
        session.receive(number, piece, now)
        now += 0.1
        if session.client.deadline <= now:
            session.client.expire(now)
    assert session.received_bytes <= len(data)
    session.client.abort()
    assert len(session.ends) == 1


_REQUESTS = (
    b"POST /send/id/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
    b"POST /idle/id/2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"4;x\r\nbody\r\n0\r\nt: v\r\n\r\n"
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
)

# Without answers: as many as the tunnel client has under way.
_MOST_REQUESTS = 128
_LEAST_RESPONSE_BYTES = len(b"HTTP/1.1 204\r\n\r\n")
_FORWARDED = b"POST http://host/idle/id/1 HTTP/1.1\r\nHost: host\r\n\r\n"
_FORWARDED_ANSWERS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n\x01data"
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n\x01data\r\n0\r\n\r\n"
)
_CHALLENGE = (
    b'HTTP/1.1 407 Who\r\nProxy-Authenticate: Negotiate, Basic realm=a, Digest realm="a", '
    b'nonce="n", qop="auth,auth-int", algorithm=SHA-256, stale=true\r\n\r\n'
)
_PROXY_ANSWERS = (_FORWARDED_ANSWERS, _FORWARDED_ANSWERS + _CHALLENGE)
_FIELDS = (
    b"GET http://host/x?app=a&sort=delay&limit=5 HTTP/1.1\r\nHost: a:80\r\nOrigin: http://b\r\n"
    b"X-Forwarded-For: 192.0.2.1, [2001:db8::1]:80\r\n"
    b'Forwarded: for="[2001:db8::2]:1";proto=https, for=_x;by="a\\"b,c"\r\n'
    b"Connection: Upgrade, x\r\nUpgrade: websocket\r\nX: y\r\nAuthorization: Basic YTp0b2tlbg==\r\n"
    b"RTMPT-Options: resume\r\nSec-Fetch-Site: none\r\nHost_: z\r\nExpect: 100-continue\r\n\r\n"
)
_WEBSITE_ANSWERS = (
    (
        b"HTTP/1.1 103 Early\r\nLink: a\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nabcde\r\n0\r\nt: v\r\n\r\n"
    ),
    b"HTTP/1.0 404 Not\r\nContent-Length: 9\r\nConnection: keep-alive\r\n\r\n<html/>\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 500,
    b"HTTP/1.1 200\r\n\r\nuntil the connection ends",
)
_OPENED = b"HTTP/1.1 200 OK\r\n%bContent-Length: 3\r\n\r\nID\n"
_MOST_COMMANDS = 32
_RESUMES = b"RTMPT-Options: resume=32, hold=250%b\r\n"
# How the server has opened the session, by the first byte of an input; None if it has not yet.
_AGREEMENTS = (None, b"", _RESUMES % b", direct", _RESUMES % b"")
_TUNNEL = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 201\r\n\r\n\x01" + bytes(200) + b"HTTP/1.1 200 OK\r\n"
    b"Content-Length: 1\r\n\r\n\x01"
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n\x02data\r\n3\r\nabc\r\n0\r\n\r\n"
)
# In pieces of one answer each.
_ANSWER_A_PIECE = tuple(
    bytes([len(answer)]) + answer * 3
    for answer in (
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n\x01ab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n\x01data",
    )
)

TARGETS = {
    "http": Target(_http, [size + _REQUESTS for size in (b"\0", b"\x01", b"\x20")]),
    "heads": Target(_heads, [_FIELDS, _REQUESTS], once_bytes=0),
    "bodies": Target(
        _bodies,
        [b'{"level": "debug"}', b"\x83\x00\x01\xff\xff"],
        once_bytes=0,
    ),
    "website": Target(
        _website, [size + answer for size in (b"\0", b"\x01") for answer in _WEBSITE_ANSWERS]
    ),
    "proxy": Target(
        _proxy,
        [size + answers for size in (b"\0", b"\x01", b"\x20") for answers in _PROXY_ANSWERS],
    ),
    "tunnel": Target(
        _tunnel,
        [
            b"\x10" + _OPENED % b"",
            *(size + _TUNNEL for size in (b"\x02", b"\x12", b"\xfe")),
            *_ANSWER_A_PIECE,
        ],
    ),
}
