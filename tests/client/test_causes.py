"""Failures by Twisted's errors, and a sentence for each."""

from __future__ import annotations

import errno
import ssl
from collections.abc import Iterator

import pytest
from twisted.internet import error as errors

from gateway.client.causes import failure_of, failure_of_answer, sentence_on
from gateway.port_test.observations import Failure, Kind, Step
from gateway.port_test.ways import parse_way
from gateway.upstreams.http_proxy import ProxyFailed
from gateway.upstreams.tls_client import TLSFailed
from gateway.upstreams.tls_client import failure_of as tls_failure_of
from gateway.upstreams.tunnel_transport import OpenFailed

WAY = parse_way("rtmps:443")


def verification(code: int) -> TLSFailed:
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = code, "text"
    return tls_failure_of(error)


def tls_error(reason: str) -> TLSFailed:
    error = ssl.SSLError()
    error.reason = reason
    return tls_failure_of(error)


def issued(issuer: str) -> TLSFailed:
    failed = verification(20)
    failed.issuer = issuer
    return failed


def cases() -> Iterator[tuple[BaseException | None, Step, Kind, str]]:
    """The error, its step and kind, and a part of the sentence."""
    yield errors.ConnectionRefusedError(), Step.CONNECT, Kind.REFUSED, "refused: nothing listens"
    yield errors.TimeoutError(), Step.CONNECT, Kind.NO_ANSWER, "packets vanish"
    yield errors.TCPTimedOutError(), Step.CONNECT, Kind.NO_ANSWER, "packets vanish"
    yield errors.NoRouteError(), Step.CONNECT, Kind.UNREACHABLE, "no route"
    for number, kind, words in (
        (errno.EHOSTUNREACH, Kind.UNREACHABLE, "no route"),
        (errno.EPERM, Kind.NOT_PERMITTED, "own firewall"),
        (errno.ECONNRESET, Kind.CLOSED, "reset during the connect"),
        (errno.EMFILE, Kind.INTERNAL, "the connect fails: EMFILE"),
    ):
        yield errors.ConnectError(number), Step.CONNECT, kind, words
    yield None, Step.CONNECT, Kind.INTERNAL, "the connect fails: "
    yield OpenFailed("x", 404), Step.OPEN, Kind.STATUS, "speaks HTTP only, not RTMPT (404)"
    yield OpenFailed("x", is_closed=True), Step.OPEN, Kind.CLOSED, "closed after the first bytes"
    yield OpenFailed("it is lost"), Step.OPEN, Kind.INTERNAL, "no tunnel is opened: it is lost"
    yield (
        verification(20),
        Step.TLS,
        Kind.NOT_TRUSTED,
        'the authority of the certificate, "?", is not trusted',
    )
    yield issued("An authority"), Step.TLS, Kind.NOT_TRUSTED, 'certificate, "An authority", is not'
    yield ProxyFailed("proxy p:1 refused"), Step.PROXY, Kind.INTERNAL, "proxy p:1 refused"
    yield verification(18), Step.TLS, Kind.SELF_SIGNED, "self-signed"
    yield verification(10), Step.TLS, Kind.EXPIRED, "outside its validity"
    yield verification(62), Step.TLS, Kind.OTHER_NAME, "another server answers"
    yield tls_error("WRONG_VERSION_NUMBER"), Step.TLS, Kind.NOT_TLS, "answers without TLS"
    yield tls_error("X"), Step.TLS, Kind.TLS_REFUSED, "TLS is refused (X)"
    yield TLSFailed("it closes"), Step.TLS, Kind.CLOSED, "closed at the first bytes of TLS"


@pytest.mark.parametrize(("error", "step", "kind", "words"), list(cases()))
def test_an_error_is_a_failure_with_a_sentence(
    error: BaseException | None, step: Step, kind: Kind, words: str
) -> None:
    failure = failure_of(error)
    assert (failure.step, failure.kind) == (step, kind)
    sentence = sentence_on(WAY, failure)
    assert words in sentence
    assert "please report" not in sentence


@pytest.mark.parametrize("step", [Step.CONNECT, Step.OPEN, Step.HANDSHAKE])
def test_ways_without_an_answer_have_a_sentence(step: Step) -> None:
    sentence = sentence_on(WAY, Failure(step, Kind.NO_ANSWER))
    assert "please report" not in sentence


@pytest.mark.parametrize(
    ("hello", "received", "kind"),
    [
        (b"\x03", b"\x03", None),
        (b"\x06", b"\x03", None),
        (b"\x06", b"\x06", None),
        (b"\x03", b"\x06\x00\x00\x00\x00", Kind.SPEAKS_OTHER),
        (b"\x03", b"HTTP", None),
        (b"\x03", b"HTTP/", Kind.SPEAKS_HTTP),
        (b"\x03", b"\x15\x03\x03\x00\x02", Kind.SPEAKS_TLS),
    ],
)
def test_first_bytes_that_are_no_handshake_are_a_failure(
    hello: bytes, received: bytes, kind: Kind | None
) -> None:
    failure = failure_of_answer(hello, received)
    assert (failure and failure.kind) == kind
