"""Heads and bodies of forwarded messages, rebuilt for the website's server and for the client.

No bytes of a peer's head are passed on unchanged. A head is rebuilt field by field after strict parsing,
and the fields that determine the end of a message (Content-Length, Transfer-Encoding, Connection) are
always written here. This prevents request smuggling. Rules:

- Hop-by-hop fields are removed (RFC 9110, 7.6.1): those named by Connection, the known ones, and all
  ``Proxy-`` fields. So are the fields that are set here and, because CGI treats ``_`` like ``-``, all
  spellings of these fields with underscores.
- Requests are sent as HTTP/1.1 in origin-form. Host is the client's; the authority of an absolute-form
  takes precedence (RFC 9112, 3.2.2); for an HTTP/1.0 client without Host, it is the server's.
- ``X-Forwarded-For`` and ``Forwarded`` of trusted proxies are extended if they are well-formed; those of
  other peers are replaced. ``X-Forwarded-Proto`` is set, and that of a trusted proxy passed on. All other
  ``X-Forwarded-`` fields and ``X-Real-IP`` are passed on from trusted proxies only, because servers take
  them for the gateway's. ``Via`` is not added, because nginx does not compress responses to requests with
  it.
- ``CONNECT`` is refused: a server that accepts it would take the next requests on its connection, which
  can be other clients', for bytes of a tunnel.
- ``Expect: 100-continue`` is forwarded to the server, and its 100 back, because only the server knows
  whether it accepts the body (RFC 9110, 10.1.1).
- Only upgrades to WebSocket are permitted (RFC 6455). Others, h2c in particular, would bypass these rules.
- A response whose end is not announced is sent chunked to HTTP/1.1 clients, and ended by closing for
  HTTP/1.0.

This module does not send anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from attrs import frozen

from gateway.errors import BadRequest
from gateway.protocols.client_address import trusted_lists
from gateway.protocols.fields import Items, tokens, values
from gateway.protocols.http import HOST, Fields
from gateway.protocols.responses import Framing, Response

# RFC 9110, 7.6.1; Keep-Alive from RFC 2068, and HTTP2-Settings from RFC 7540.
_HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade")
) | {b"http2-settings"}
# Not a standard field, but CGI passes it on as the variable HTTP_PROXY.
_PROXYS = (b"proxy-", b"proxy")
_MADE_ANEW = _HOP_BY_HOP | {b"host", b"content-length", b"expect"}
_MADE_ANEW |= {b"x-forwarded-for", b"x-forwarded-proto", b"forwarded"}

# The claims of proxies about their clients.
_CLAIMS = (b"x-forwarded", b"x-real-ip")

# The idempotent methods of RFC 9110, 9.2.2.
_IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))
_ABSOLUTE_FORM = re.compile(rb"https?://([^/?]+)(/[^#]*|\?[^#]*)?", re.IGNORECASE)
_ORIGIN_FORM = re.compile(rb"/[^#]*")
_WEBSOCKET = b"websocket"

LAST_CHUNK = b"0\r\n\r\n"


@frozen
class Request:
    """A request for the website.

    ``address``: the connection's peer, or "". ``secure``: whether the connection is TLS. ``is_trusted``:
    whether the peer is a trusted proxy. ``client``: the client's address, which such a proxy has named.
    """

    method: bytes
    target: bytes
    fields: Fields
    address: str
    secure: bool
    is_trusted: bool = False
    client: str = ""

    @property
    def has_body(self) -> bool:
        return self.fields.chunked or bool(self.fields.content_length)

    @property
    def waits_for_continue(self) -> bool:
        """Whether the client waits for a 100 response before it sends the body."""
        return self.fields.expects_continue and self.has_body

    @property
    def may_be_repeated(self) -> bool:
        """Whether the request may be sent twice."""
        return self.method in _IDEMPOTENT and not self.has_body

    @property
    def asks_for_websocket(self) -> bool:
        return (
            self.method == b"GET"
            and self.fields.version == 1
            and not self.has_body
            and b"upgrade" in tokens(self.fields.items, b"connection")
            and _is_websocket(self.fields.items)
        )


def request_head(request: Request, server: bytes) -> bytes:
    """The head for the website's server, which is called ``server``.

    Raises BadRequest for CONNECT, and for a target that none of RFC 9112's forms allows here.
    """
    fields = request.fields
    authority, target = _target_of(request)
    host = authority or fields.value(b"host") or server
    lines = [b"%b %b HTTP/1.1" % (request.method, target), b"Host: " + host]
    items = _passed_on(fields.items, _MADE_ANEW)
    lines += _lines(item for item in items if request.is_trusted or not _is_claim(item[0]))
    lines += _forwarded_lines(request)
    if fields.chunked:
        lines.append(b"Transfer-Encoding: chunked")
    elif fields.value(b"content-length") is not None:
        lines.append(b"Content-Length: %d" % fields.content_length)
    if request.waits_for_continue:
        lines.append(b"Expect: 100-continue")
    if request.asks_for_websocket:
        lines += _UPGRADE_LINES
    return _joined(lines)


def interim_head(response: Response) -> bytes:
    """The head of an interim (1xx) response for an HTTP/1.1 client."""
    lines = _lines(_passed_on(response.items, _HOP_BY_HOP | {b"content-length"}))
    return _joined([_status_line(response), *lines])


def upgrade_head(response: Response) -> bytes:
    """The head of a 101 response."""
    lines = _lines(_passed_on(response.items, _HOP_BY_HOP | {b"content-length"}))
    return _joined([_status_line(response), *_UPGRADE_LINES, *lines])


def accepts_upgrade(request: Request, response: Response) -> bool:
    """Whether a 101 response matches the requested upgrade."""
    return request.asks_for_websocket and _is_websocket(response.items)


def framing_to(version: int, response: Response) -> Framing:
    """The framing of the response body for an HTTP/1.``version`` client."""
    if response.framing in (Framing.NONE, Framing.LENGTH):
        return response.framing
    return Framing.CHUNKED if version else Framing.UNTIL_CLOSE


def response_head(response: Response, framing: Framing, version: int, closes: bool) -> bytes:
    """The head for an HTTP/1.``version`` client. ``closes``: whether its connection closes afterwards."""
    lines = [_status_line(response)]
    lines += _lines(_passed_on(response.items, _HOP_BY_HOP | {b"content-length"}))
    if response.content_length is not None and framing in (Framing.NONE, Framing.LENGTH):
        lines.append(b"Content-Length: %d" % response.content_length)
    if framing is Framing.CHUNKED:
        lines.append(b"Transfer-Encoding: chunked")
    if closes:
        lines.append(b"Connection: close")
    elif not version:
        lines.append(b"Connection: keep-alive")
    return _joined(lines)


def chunk(piece: bytes) -> bytes:
    """``piece`` as a chunk; b"" if it is empty, because an empty chunk ends the body."""
    return b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""


_UPGRADE_LINES = (b"Connection: Upgrade", b"Upgrade: websocket")


def _is_websocket(items: Items) -> bool:
    return [value.lower() for value in values(items, b"upgrade")] == [_WEBSOCKET]


def _target_of(request: Request) -> tuple[bytes, bytes]:
    """The authority in the target, or b"", and the target in origin-form or ``*``."""
    target = request.target
    if request.method == b"CONNECT":
        raise BadRequest("CONNECT is for proxies")
    if _ORIGIN_FORM.fullmatch(target) or (target == b"*" and request.method == b"OPTIONS"):
        return b"", target
    match = _ABSOLUTE_FORM.fullmatch(target)
    if match is None or not HOST.fullmatch(match[1]):
        raise BadRequest("a target in a form that is not accepted")
    path = match[2] or b"/"
    return match[1], path if path.startswith(b"/") else b"/" + path


def _passed_on(items: Items, kept_back: frozenset[bytes]) -> Iterator[tuple[bytes, bytes]]:
    named = tokens(items, b"connection")
    for name, value in items:
        spelt = name.replace(b"_", b"-")
        if spelt not in kept_back and spelt not in named and not _is_for_proxies(spelt):
            yield name, value


def _is_claim(name: bytes) -> bool:
    return name.replace(b"_", b"-").startswith(_CLAIMS)


def _is_for_proxies(name: bytes) -> bool:
    return name.startswith(_PROXYS[0]) or name == _PROXYS[1]


def _forwarded_lines(request: Request) -> list[bytes]:
    """``Forwarded`` (RFC 7239), and the two older fields that most servers read instead."""
    items = request.fields.items
    scheme = b"https" if request.secure else b"http"
    proto = scheme
    earlier: tuple[list[bytes], list[bytes]] = ([], [])
    if request.is_trusted:
        earlier = trusted_lists(items)
        named = [value.lower() for value in values(items, b"x-forwarded-proto")]
        if named in ([b"http"], [b"https"]):
            proto = named[0]
    address = request.address.encode("ascii", "replace")
    node = b"unknown"
    if address:
        node = b'"[%b]"' % address if b":" in address else address
    clients = [*earlier[0], address]
    forwarded = [*earlier[1], b"for=%b;proto=%b" % (node, scheme)]
    lines = [
        b"X-Forwarded-Proto: " + proto,
        b"Forwarded: " + b", ".join(filter(None, forwarded)),
    ]
    if any(clients):
        lines.append(b"X-Forwarded-For: " + b", ".join(filter(None, clients)))
    return lines


def _status_line(response: Response) -> bytes:
    return b"HTTP/1.1 %d %b" % (response.status, response.reason)


def _lines(items: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    # Field names are case-insensitive, but some servers expect this form.
    return [b"%b: %b" % (name.title(), value) for name, value in items]


def _joined(lines: Iterable[bytes]) -> bytes:
    return b"\r\n".join((*lines, b"", b""))
