"""Which web pages may use the port test: those of the gateway's own host, on any of its ports.

The page on one port tests the others, which are other origins to a browser (RFC 6454). Requests with an
``Origin`` of the same host name get the fields of CORS (Fetch standard, 3.3). Others get none, so that
their pages can read nothing. They are not refused, because a reverse proxy may have changed the ``Host``
of the gateway's own page, unless a browser calls them requests of another site (``Sec-Fetch-Site``). To a
browser, HTTP and HTTPS of one host are two sites.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from gateway.errors import ForeignOrigin
from gateway.protocols.http import HOST, Fields

_ORIGIN: Final = re.compile(rb"https?://(%b)" % HOST.pattern)
_PORT: Final = re.compile(rb":[0-9]*$")
# The page has a handful of origins, each behind one host name.
_REMEMBERED: Final = 64
PREFLIGHT: Final = (
    b"Access-Control-Allow-Methods: GET, POST\r\n"
    b"Access-Control-Allow-Headers: content-type\r\n"
    b"Access-Control-Max-Age: 600\r\n"
)


def sharing_fields(fields: Fields) -> bytes:
    """The field lines that let the page which has sent a request read the answer; empty for none.

    Raises ForeignOrigin for a page of another site.
    """
    origin = fields.value(b"origin")
    found = b"" if origin is None else _fields_for(origin, fields.value(b"host") or b"")
    # A link on another site may lead to the page.
    is_link = fields.value(b"sec-fetch-mode") == b"navigate"
    if not found and fields.value(b"sec-fetch-site") == b"cross-site" and not is_link:
        raise ForeignOrigin("a page of another site")
    return found


@lru_cache(maxsize=_REMEMBERED)
def _fields_for(origin: bytes, host: bytes) -> bytes:
    match = _ORIGIN.fullmatch(origin)
    if match is None or _name(match[1]) != _name(host):
        return b""
    return b"Access-Control-Allow-Origin: %b\r\nVary: Origin\r\n" % origin


def _name(authority: bytes) -> bytes:
    return _PORT.sub(b"", authority).lower()
