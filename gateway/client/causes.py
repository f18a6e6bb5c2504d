"""Causes of failed ways, from Twisted's errors and the server's first bytes, with a sentence for each: the
port tester's where it has one.
"""

from __future__ import annotations

import errno
import ssl
from collections.abc import Mapping
from typing import Final

from twisted.internet import error as errors

from gateway.client.proxied_ways import ProxiedWay
from gateway.port_test.answers import (
    kind_of_bytes,
    kind_of_system_error,
    kind_of_tls_error,
    kind_of_verification,
)
from gateway.port_test.observations import Failure, Kind, Step, Trial
from gateway.port_test.verdicts import verdict_on
from gateway.port_test.ways import Route, Way
from gateway.upstreams.http_proxy import ProxyFailed
from gateway.upstreams.tls_client import TLSFailed
from gateway.upstreams.tunnel_transport import OpenFailed

# The longest beginning by which another protocol is recognised.
_RECOGNISING_BYTES: Final = 5
_PLAIN: Final = 3
# Plain, and RTMPE's, to which a server may also answer with the plain one.
_VERSIONS: Final = b"\x03\x06\x08\x09"

_CONNECT_KINDS: Final[Mapping[type[Exception], Kind]] = {
    errors.ConnectionRefusedError: Kind.REFUSED,
    errors.TCPTimedOutError: Kind.NO_ANSWER,
    errors.TimeoutError: Kind.NO_ANSWER,
    errors.NoRouteError: Kind.UNREACHABLE,
}
# Instead of the port tester's, which has read the certificate.
_OWN_ROWS: Final[Mapping[tuple[Step, Kind], str]] = {
    (Step.LOOK_UP, Kind.UNKNOWN_NAME): (
        "the name is unknown, or the name server does not answer: check how it is written, and the network"
    ),
    (Step.PROXY, Kind.INTERNAL): "{detail}",
    (Step.TLS, Kind.NOT_TRUSTED): (
        'the authority of the certificate, "{detail}", is not trusted: an inspecting proxy\'s, or the'
        " server's own; give it by --ca FILE if you trust it"
    ),
    (Step.TLS, Kind.SELF_SIGNED): (
        'the certificate is self-signed (by "{detail}"): of the server itself or of an inspecting proxy;'
        " give it by --ca FILE if you trust it"
    ),
    (Step.TLS, Kind.EXPIRED): (
        "the certificate is outside its validity: check this clock, or tell the server's operator"
    ),
    (Step.TLS, Kind.OTHER_NAME): (
        'the certificate is for another name (issuer "{detail}"): another server answers, such as a'
        " filter's or a captive portal's"
    ),
    (Step.OPEN, Kind.INTERNAL): "no tunnel is opened: {detail}",
    (Step.CONNECT, Kind.INTERNAL): "the connect fails: {detail}",
}


def failure_of(error: BaseException | None) -> Failure:
    """The failure of a way that could not be established."""
    if isinstance(error, ProxyFailed):
        return Failure(Step.PROXY, Kind.INTERNAL, error.cause)
    if isinstance(error, TLSFailed):
        return _of_tls(error)
    if isinstance(error, OpenFailed):
        if error.status:
            return Failure(Step.OPEN, Kind.STATUS, status=error.status)
        if error.is_closed:
            return Failure(Step.OPEN, Kind.CLOSED)
        return Failure(Step.OPEN, Kind.INTERNAL, error.cause)
    number = getattr(error, "osError", None)
    kind = _CONNECT_KINDS.get(type(error)) or kind_of_system_error(  # type: ignore[arg-type]
        number if isinstance(number, int) else None
    )
    detail = errno.errorcode.get(number, "") if isinstance(number, int) else ""
    return Failure(Step.CONNECT, kind, detail or str(error))


def failure_of_answer(hello: bytes, received: bytes) -> Failure | None:
    """The failure of a way whose first bytes are not the answer to the handshake ``hello``; None as long as
    they can be.
    """
    allowed = _VERSIONS if hello[0] != _PLAIN else _VERSIONS[:1]
    if received[0] in allowed or len(received) < _RECOGNISING_BYTES:
        return None
    return Failure(Step.HANDSHAKE, kind_of_bytes(received), f"its first byte is {received[0]}")


def sentence_on(way: Way, failure: Failure) -> str:
    """What the failure means for the user."""
    row = _OWN_ROWS.get((failure.step, failure.kind))
    if row is not None:
        return row.format(detail=failure.detail)
    route = Route.PROXY if isinstance(way, ProxiedWay) else Route.IPV4
    return verdict_on(Trial(way, route, failure=failure))


def _of_tls(failed: TLSFailed) -> Failure:
    error = failed.error
    if isinstance(error, ssl.SSLCertVerificationError):
        return Failure(Step.TLS, kind_of_verification(error.verify_code), failed.issuer or "?")
    if error is None:
        return Failure(Step.TLS, Kind.CLOSED)
    return Failure(Step.TLS, kind_of_tls_error(error.reason), error.reason or "")
