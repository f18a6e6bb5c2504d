"""What the website's server and the client are told of each other: heads made anew, bodies framed anew.

Nothing a peer wrote is passed on as it stood. A head is rebuilt, field by field, from what was read
strictly, and the three things that say where a message ends (Content-Length, Transfer-Encoding,
Connection) are always our own: that is why no request can be smuggled past us. The rules:

- Hop-by-hop fields end here (RFC 9110, 7.6.1): those that Connection names, the well-known ones, and all
  of ``Proxy-``. So do what we set ourselves and, since CGI and its kin take ``_`` for ``-``, every spelling
  of one of these with underscores.
- The request goes as HTTP/1.1 in origin-form. Host is the client's; that of an absolute-form wins over it
  (RFC 9112, 3.2.2); a client of HTTP/1.0 that names none gets the server's own.
- ``X-Forwarded-For`` and ``Forwarded`` of a trusted proxy are added to, if they are well-formed; those of
  all others are replaced. ``X-Forwarded-Proto`` is set; that of a trusted proxy is passed on. No ``Via``:
  nginx takes it for a reason not to compress.
- ``Expect: 100-continue`` goes to the server, and its 100 back: only it knows whether it wants the body,
  and a refusal before a large upload is worth more than our guess (RFC 9110, 10.1.1).
- Of upgrades only WebSocket passes (RFC 6455): anything else, h2c before all, would be a tunnel past us.
- An answer whose end the server does not announce is chunked for HTTP/1.1 and closed behind for 1.0.

This module does not know when anything is sent, nor to whom.
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

# RFC 9110, 7.6.1; Keep-Alive is RFC 2068's, HTTP2-Settings RFC 7540's.
_HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade")
) | {b"http2-settings"}
# Without a dash it is nobody's, but CGI hands it on as the variable HTTP_PROXY.
_PROXYS = (b"proxy-", b"proxy")
_MADE_ANEW = _HOP_BY_HOP | {b"host", b"content-length", b"expect"}
_MADE_ANEW |= {b"x-forwarded-for", b"x-forwarded-proto", b"forwarded"}

# RFC 9110, 9.2.2, without those we do not know: repeating one of these changes nothing.
_IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))
_ABSOLUTE_FORM = re.compile(rb"https?://([^/?]+)(/[^#]*|\?[^#]*)?", re.IGNORECASE)
_ORIGIN_FORM = re.compile(rb"/[^#]*")
_WEBSOCKET = b"websocket"

LAST_CHUNK = b"0\r\n\r\n"


@frozen
class Request:
    """A request that is the website's: its head, and what is known of its client.

    ``address`` is the connection's peer, empty when it is not known; ``secure`` says whether the connection
    is TLS, ``is_trusted`` whether the peer is a trusted proxy.
    """

    method: bytes
    target: bytes
    fields: Fields
    address: str
    secure: bool
    is_trusted: bool = False

    @property
    def has_body(self) -> bool:
        return self.fields.chunked or bool(self.fields.content_length)

    @property
    def waits_for_continue(self) -> bool:
        """Whether the client sends the body only when it is asked to."""
        return self.fields.expects_continue and self.has_body

    @property
    def may_be_repeated(self) -> bool:
        """Whether sending it twice is sending it once."""
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

    Raises BadRequest for a target that none of RFC 9112's forms allows here.
    """
    fields = request.fields
    authority, target = _target_of(request)
    host = authority or fields.value(b"host") or server
    lines = [b"%b %b HTTP/1.1" % (request.method, target), b"Host: " + host]
    lines += _lines(_passed_on(fields.items, _MADE_ANEW))
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
    """An answer of 1xx that another one follows, for a client of HTTP/1.1."""
    lines = _lines(_passed_on(response.items, _HOP_BY_HOP | {b"content-length"}))
    return _joined([_status_line(response), *lines])


def upgrade_head(response: Response) -> bytes:
    """The answer 101, behind which the bytes are raw."""
    lines = _lines(_passed_on(response.items, _HOP_BY_HOP | {b"content-length"}))
    return _joined([_status_line(response), *_UPGRADE_LINES, *lines])


def accepts_upgrade(request: Request, response: Response) -> bool:
    """Whether a 101 is an answer to what was asked."""
    return request.asks_for_websocket and _is_websocket(response.items)


def framing_to(version: int, response: Response) -> Framing:
    """How the body of the answer goes to a client of HTTP/1.``version``."""
    if response.framing in (Framing.NONE, Framing.LENGTH):
        return response.framing
    return Framing.CHUNKED if version else Framing.UNTIL_CLOSE


def response_head(response: Response, framing: Framing, version: int, closes: bool) -> bytes:
    """The head for a client of HTTP/1.``version``, whose connection closes after the answer or not."""
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
    """``piece`` as one chunk; b"" for none, since an empty chunk is the last."""
    return b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""


_UPGRADE_LINES = (b"Connection: Upgrade", b"Upgrade: websocket")


def _is_websocket(items: Items) -> bool:
    return [value.lower() for value in values(items, b"upgrade")] == [_WEBSOCKET]


def _target_of(request: Request) -> tuple[bytes, bytes]:
    """The authority, b"" unless the target names one, and the target in origin-form or as ``*``."""
    target = request.target
    if _ORIGIN_FORM.fullmatch(target) or (target == b"*" and request.method == b"OPTIONS"):
        return b"", target
    match = _ABSOLUTE_FORM.fullmatch(target)
    if match is None or not HOST.fullmatch(match[1]):
        raise BadRequest("a target of no form that is taken here")
    path = match[2] or b"/"
    return match[1], path if path.startswith(b"/") else b"/" + path


def _passed_on(items: Items, kept_back: frozenset[bytes]) -> Iterator[tuple[bytes, bytes]]:
    named = tokens(items, b"connection")
    for name, value in items:
        spelt = name.replace(b"_", b"-")
        if spelt not in kept_back and spelt not in named and not _is_for_proxies(spelt):
            yield name, value


def _is_for_proxies(name: bytes) -> bool:
    return name.startswith(_PROXYS[0]) or name == _PROXYS[1]


def _forwarded_lines(request: Request) -> list[bytes]:
    """Who asks, and how: RFC 7239, and the two fields that everybody reads in its place."""
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
    # Names are the same in any case, but not all who read them know.
    return [b"%b: %b" % (name.title(), value) for name, value in items]


def _joined(lines: Iterable[bytes]) -> bytes:
    return b"\r\n".join((*lines, b"", b""))
