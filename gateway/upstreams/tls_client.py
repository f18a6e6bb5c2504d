"""TLS to media servers: certificates, resumption of sessions, and the causes of failed handshakes.

The server's certificate must be valid for the name in the configuration, or for the IP address if that is
in it. The name is also sent (SNI), an IP address is not (RFC 6066, 3).

A server's last session is kept, and offered at the next handshake: the server need not send its
certificate then, and nothing is signed. TLS 1.2 has it at the end of the handshake. TLS 1.3 sends tickets
behind it, which come before the first data from all known servers.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, final

from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.error import ConnectError
from twisted.logger import Logger

from gateway.logs import repeated
from gateway.pem_files import read_certificates
from gateway.tls import TLSConnection

_log = Logger()

# How many reads are expected to bring a ticket. Each look at the session copies it.
_TICKET_READS: Final = 4

# X509_V_ERR_* of openssl/x509_vfy.h.
_VERIFICATIONS: Final[Mapping[int, str]] = {
    9: "its certificate is not valid yet; correct the clocks",
    10: "its certificate has expired; renew it",
    **dict.fromkeys(
        (2, 18, 19, 20, 21),
        "its certificate is of an unknown authority; name that in tls_authorities",
    ),
    **dict.fromkeys(
        (62, 64),
        "its certificate is for other names; use one of those, or set tls_server_name to it",
    ),
}
_NEEDS_CERTIFICATE: Final = "it requires a client's certificate; set tls_certificate"
_REFUSES_CERTIFICATE: Final = "it refuses the client's certificate; check tls_certificate"
# The alerts about a client's certificate, which TLS 1.3 sends after the client's end of the handshake.
_ALERTS: Final[Mapping[str, str]] = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": _NEEDS_CERTIFICATE,
    **dict.fromkeys(
        (
            *("TLSV1_ALERT_UNKNOWN_CA", "SSLV3_ALERT_BAD_CERTIFICATE"),
            *("SSLV3_ALERT_CERTIFICATE_EXPIRED", "SSLV3_ALERT_CERTIFICATE_REVOKED"),
            *("SSLV3_ALERT_CERTIFICATE_UNKNOWN", "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE"),
            *("TLSV1_ALERT_ACCESS_DENIED", "TLSV1_ALERT_DECRYPT_ERROR"),
        ),
        _REFUSES_CERTIFICATE,
    ),
}
_REASONS: Final[Mapping[str, str]] = {
    **_ALERTS,
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it does not speak TLS 1.2 or 1.3",
    "UNSUPPORTED_PROTOCOL": "it does not speak TLS 1.2 or 1.3",
    "TLSV1_UNRECOGNIZED_NAME": "it does not know the name; set tls_server_name",
    # What servers of TLS 1.2 send if a certificate is missing.
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "it refuses the handshake; it may require a client's certificate",
}


class TLSFailed(ConnectError):
    """The TLS handshake with a server has failed; the text is the cause. ``error``: OpenSSL's, if it is
    one. ``issuer``: of the server's certificate, where the client has read it afterwards.
    """

    issuer = ""

    def __init__(self, cause: str, error: ssl.SSLError | None = None) -> None:
        super().__init__(string=cause)  # type: ignore[no-untyped-call]
        self.cause = cause
        self.error = error

    def __str__(self) -> str:
        return self.cause


def failure_of(error: BaseException | None) -> TLSFailed:
    """The failure of a handshake that ended with this error."""
    if isinstance(error, ssl.SSLCertVerificationError):
        other = f"its certificate is not accepted: {error.verify_message}"
        return TLSFailed(_VERIFICATIONS.get(error.verify_code, other), error)
    if isinstance(error, ssl.SSLError):
        other = f"TLS handshake failed: {error.reason}"
        return TLSFailed(_REASONS.get(error.reason or "", other), error)
    return TLSFailed("it closes the connection during the TLS handshake")


def client_context(
    authorities: bytes = b"", certificate: str = "", verify: bool = True
) -> ssl.SSLContext:
    """The context of clients. ``authorities``: certificates to trust, in DER; the system's if empty.

    ``certificate``: the path of a PEM file with the client's chain and key. Without ``verify``, every
    server is accepted. Raises OSError or ValueError if OpenSSL refuses a file.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # OpenSSL refuses renegotiation of TLS 1.2 then, which servers can ask for.
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # A listed certificate is trusted, whether it is a root or not.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.hostname_checks_common_name = False
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif authorities:
        context.load_verify_locations(cadata=authorities)
    else:
        context.load_default_certs()
    if certificate:
        # Without a password, OpenSSL would ask for one on the terminal.
        context.load_cert_chain(certificate, password="")
    return context


def read_authorities(path: str) -> bytes:
    """The certificates in a PEM file, in DER. Raises ConfigurationError."""
    return b"".join(each.public_bytes(Encoding.DER) for each in read_certificates(path))


@final
class ClientTLS:
    """TLS to the servers of one ``[[upstream]]``. A new ``context`` is used from the next connection on.

    ``server_name``: instead of the servers' own names; "" for those.
    """

    def __init__(self, context: ssl.SSLContext, server_name: str = "") -> None:
        self.context = context
        self.server_name = server_name


@final
class ServerTLS:
    """TLS to the server ``name`` at ``host``, with its last session."""

    def __init__(self, client: ClientTLS, host: str, name: str) -> None:
        self._client = client
        # Neither the zone of an IPv6 address nor the dot of a complete name is in certificates.
        self._host = client.server_name or host.partition("%")[0].rstrip(".")
        self._name = name
        # It belongs to its context.
        self._session: tuple[ssl.SSLContext, ssl.SSLSession] | None = None

    def connection(self, handshaken: Callable[[TLSConnection], None]) -> TLSConnection:
        """A connection to the server, which begins its handshake when it gets its transport."""
        context, kept = self._client.context, self._session
        session = kept[1] if kept is not None and kept[0] is context else None
        engine = partial(context.wrap_bio, server_hostname=self._host, session=session)
        return _ClientConnection(engine, handshaken, partial(self._keep, context), self._warn)

    def _keep(self, context: ssl.SSLContext, session: ssl.SSLSession) -> None:
        self._session = context, session

    def _warn(self, fault: ssl.SSLError) -> None:
        """Report a refusal of the client's certificate, which comes after a successful connect."""
        cause = _ALERTS.get(fault.reason or "")
        if cause is not None:
            repeated.warn(
                _log,
                f"{self._name}: {cause}",
                "upstream {server} ends the connection: {cause}",
                server=self._name,
                cause=cause,
            )


@final
class _ClientConnection(TLSConnection):
    """``keep`` receives the session as soon as it can be resumed, ``warn`` an error after the handshake."""

    __slots__ = ("_keep", "_looks", "_warn")

    def __init__(
        self,
        make_engine: Any,
        handshaken: Callable[[TLSConnection], None],
        keep: Callable[[ssl.SSLSession], None],
        warn: Callable[[ssl.SSLError], None],
    ) -> None:
        super().__init__(make_engine, handshaken)
        self._keep = keep
        self._looks = _TICKET_READS
        self._warn = warn

    def makeConnection(self, transport: Any) -> None:
        super().makeConnection(transport)
        self._shake_hands()

    def _hand_up(self) -> None:
        super()._hand_up()
        if self._looks:
            self._looks -= 1
            self._look_for_session()

    def _look_for_session(self) -> None:
        session = self._tls.session
        if session is not None and (session.has_ticket or self.version == "TLSv1.2"):
            self._looks = 0
            self._keep(session)

    def _break_off(self, cause: Exception) -> None:
        if self._fault is not None:
            self._warn(self._fault)
        super()._break_off(cause)
