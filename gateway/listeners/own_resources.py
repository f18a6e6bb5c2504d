"""HTTP resources that the gateway serves itself, beside tunnel commands: documents, and preflights.

``OwnResources.by_path`` is the table of their paths. They take precedence over the website, and exist only
if the configuration has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Final, Protocol, final

from attrs import Factory, field, frozen

from gateway.errors import NotFound
from gateway.listeners.response_heads import ResponseHeads
from gateway.protocols.commands import command_of, resource_path
from gateway.protocols.cross_origin import CrossOrigin
from gateway.protocols.fields import values
from gateway.protocols.http import Fields

# Clients and balancers ask here for the server's address (PROTOCOL.md, The exchange).
IDENT: Final = b"/fcs/ident"
IDENT2: Final = b"/fcs/ident2"
CROSS_DOMAIN: Final = b"/crossdomain.xml"
CLIENT_ACCESS: Final = b"/clientaccesspolicy.xml"

_ETAG_BYTES: Final = 8


class Resource(Protocol):
    """Answers requests for one path."""

    def response(self, method: bytes, fields: Fields, heads: ResponseHeads) -> bytes:
        """The whole response. ``heads`` are those of the request's connection. Raises RequestRefused."""


@frozen
class Document:
    """A body that is the same for all clients. ``methods``: those allowed beside GET and HEAD."""

    content_type: bytes
    body: bytes = field(repr=False)
    cache_control: bytes = b"max-age=3600"
    methods: frozenset[bytes] = frozenset()
    etag: bytes = field(
        init=False,
        default=Factory(lambda self: _etag(self.body), takes_self=True),
    )

    def response(self, method: bytes, fields: Fields, heads: ResponseHeads) -> bytes:
        if method not in (b"GET", b"HEAD") and method not in self.methods:
            allowed = b", ".join([b"GET", b"HEAD", *sorted(self.methods)])
            return heads.whole(405, b"Allow: %b\r\n" % allowed)
        lines = b"ETag: %b\r\nCache-Control: %b\r\n" % (self.etag, self.cache_control)
        if method != b"POST" and self._is_known(fields):
            return heads.without_content(304, lines)
        lines = b"Content-Type: %b\r\nX-Content-Type-Options: nosniff\r\n%b" % (
            self.content_type,
            lines,
        )
        return heads.whole(200, lines, self.body, sends_body=method != b"HEAD")

    def _is_known(self, fields: Fields) -> bool:
        """Whether the client has this version (RFC 9110, 13.1.2)."""
        listed = b",".join(values(fields.items, b"if-none-match")).split(b",")
        return any(each.strip(b" \t").removeprefix(b"W/") in (self.etag, b"*") for each in listed)


def _etag(body: bytes) -> bytes:
    return b'"%b"' % sha256(body).hexdigest()[: 2 * _ETAG_BYTES].encode()


@final
class Preflight:
    """Answers browsers that ask whether scripts of another origin may send tunnel commands."""

    def __init__(self, cross_origin: CrossOrigin) -> None:
        self._cross_origin = cross_origin

    def response(self, method: bytes, fields: Fields, heads: ResponseHeads) -> bytes:
        lines = self._cross_origin.of_preflight(fields.items)
        # The origin decides, so a cache must not mix up the answers.
        return heads.without_content(204, lines) if lines else heads.whole(403, b"Vary: Origin\r\n")


@frozen
class OwnResources:
    """``preflight`` is None if browsers may not send commands from other origins."""

    by_path: Mapping[bytes, Resource] = field(factory=dict)
    preflight: Resource | None = None
    # The policy for sockets, with its end; empty if there is none.
    socket_policy: bytes = b""

    def find(self, method: bytes, target: bytes) -> Resource | None:
        """The resource of a request that is no tunnel command."""
        if method == b"OPTIONS" and self.preflight is not None and command_of(b"POST", target):
            return self.preflight
        return self.by_path.get(resource_path(target))

    def ident(self) -> Resource:
        """The answer to ``/fcs/ident2``. Raises NotFound without an address: clients then continue with the
        same host.
        """
        resource = self.by_path.get(IDENT2)
        if resource is None:
            raise NotFound("no public_address is configured")
        return resource


NO_OWN_RESOURCES: Final = OwnResources()
