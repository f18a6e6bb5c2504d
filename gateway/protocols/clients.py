"""Client programs, recognised by the head of their open request.

Three programs use an answer's bytes as they arrive, and so can get streamed answers (PROTOCOL.md, Streamed
answers). Their heads were captured from FFmpeg 5.1 and rtmpdump 2.4, whose librtmp is also used by
GStreamer, VLC and old OBS.

    program   framing of a streamed answer   recognised by
    FFmpeg    chunked                        ``Icy-MetaData``, which no Flash Player asks for
    librtmp   a declared length              the seven fields that it sends, in its order
    gateway   chunked                        ``RTMPT-Options`` (``tunnel_options``)

A connection is direct if nothing indicates a proxy. ``Via``, ``X-Forwarded-For``, ``Forwarded``,
``X-Real-IP`` and HTTP/1.0 indicate one that identifies itself. ``Connection`` reveals one that does not:
the field applies to one hop (RFC 9110, 7.6.1), so a proxy removes it or writes its own, and both programs
send it at a fixed position.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from attrs import frozen

from gateway.protocols.http import Fields
from gateway.protocols.limits import Limits
from gateway.protocols.tunnel_client.requests import FIELDS, PERSISTENT
from gateway.protocols.tunnel_options import answer_field, asks_to_resume


class Framing(Enum):
    """How the end of a streamed answer is marked: by the last chunk, or by a length in the head."""

    CHUNKED = "chunked"
    DECLARED = "declared"


@frozen
class Client:
    """A client program. ``framing`` is None if it uses only complete answers.

    ``tries_again``: whether it retries a failed command as FFmpeg does (``retries``). ``resumes``: whether
    it asks for the extensions of ``tunnel_options``.
    """

    framing: Framing | None = None
    tries_again: bool = False
    resumes: bool = False


FFMPEG: Final = Client(Framing.CHUNKED, tries_again=True)
LIBRTMP: Final = Client(Framing.DECLARED)
GATEWAY: Final = Client(Framing.CHUNKED, resumes=True)
OTHER: Final = Client()

_ICY: Final = b"icy-metadata"
_LIBRTMP_NAMES: Final = (
    *(b"host", b"accept", b"user-agent", b"connection"),
    *(b"cache-control", b"content-type", b"content-length"),
)
_LIBRTMP_AGENT: Final = b"Shockwave Flash"
_PROXY_FIELDS: Final = frozenset((b"via", b"x-forwarded-for", b"forwarded", b"x-real-ip"))


def recognise(fields: Fields) -> Client:
    """The program that sent a request with these fields."""
    if asks_to_resume(fields.items):
        return GATEWAY
    if fields.value(_ICY) is not None:
        return FFMPEG
    names = tuple(name for name, _ in fields.items if name not in _PROXY_FIELDS)
    if names == _LIBRTMP_NAMES and fields.value(b"user-agent") == _LIBRTMP_AGENT:
        return LIBRTMP
    return OTHER


def is_direct(client: Client, fields: Fields) -> bool:
    """Whether the fields of a request of ``client`` show no sign of a proxy."""
    names = [name for name, _ in fields.items]
    if client is GATEWAY:
        return _is_own_head(fields, names)
    if not fields.version or not _PROXY_FIELDS.isdisjoint(names):
        return False
    if client is FFMPEG:
        return names[:3] == [b"accept", b"connection", b"host"]
    return client is LIBRTMP and fields.value(b"connection") == b"Keep-Alive"


def options_field(fields: Fields, limits: Limits, hold_s: float) -> bytes:
    """The field of the answer to an open request, by which both agree on ``tunnel_options``; or empty."""
    if not asks_to_resume(fields.items):
        return b""
    return answer_field(limits, hold_s, is_direct(GATEWAY, fields))


def _is_own_head(fields: Fields, names: list[bytes]) -> bool:
    """Whether the head is as another gateway wrote it, which may name one client."""
    forwarded = fields.value(b"x-forwarded-for")
    expected = [name for name in FIELDS if forwarded is not None or name != b"x-forwarded-for"]
    is_one = forwarded is None or b"," not in forwarded
    return names == expected and is_one and fields.value(b"connection") == PERSISTENT
