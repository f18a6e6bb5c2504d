"""From observations to sentences: for each failure what is between, and what to do; and remarks on ways.

The tables have a row for every failure of a step. A row is a format; its names are those of ``_facts``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from gateway.port_test.observations import (
    Certificate,
    Delivery,
    Failure,
    Kind,
    Step,
    Trial,
    Unmeasured,
)
from gateway.port_test.ways import Route

# Encoders warn, and many authorities renew, about a month before the end.
_FEW_DAYS: Final = 14

_Rows = Mapping[Kind, str]

# A throughput of more than this part of the server's limit may be the limit.
_AT_LIMIT: Final = 0.85
_UNMEASURED: Final = {
    Unmeasured.NOT_TUNNELLED: "throughput is measured in tunnels only: rtmpt and rtmpts",
    Unmeasured.NOT_OFFERED: (
        "the server offers no measurement of throughput: it is another server, or a gateway without"
        " [port_test]"
    ),
    Unmeasured.BUSY: "the server permits no measurement of throughput now; try again in a few minutes",
    Unmeasured.FAILED: "the measurement of throughput did not complete; try again",
}

_LOOK_UP: Final[_Rows] = {
    Kind.UNKNOWN_NAME: "the name is unknown: check how it is written, or ask for the server's address",
    Kind.NO_NAME_SERVER: "the name server does not answer: this network has no working DNS",
}
_CONNECT: Final[_Rows] = {
    Kind.NO_ANSWER: (
        "packets vanish: a firewall drops them, or the server is down; use another port"
    ),
    Kind.REFUSED: "refused: nothing listens on port {port}, or a firewall rejects; use another port",
    Kind.CLOSED: "reset during the connect: a firewall rejects port {port}; use another port",
    Kind.UNREACHABLE: "no route: a firewall or router forbids the address or port, or has no path to it",
    Kind.NOT_PERMITTED: "this machine's own firewall forbids the connection",
}
_PROXY: Final[_Rows] = {
    Kind.UNKNOWN_NAME: "the proxy's name is unknown: check the proxy's URL",
    Kind.NO_NAME_SERVER: "the name server does not answer for the proxy's name",
    Kind.NO_ANSWER: "the proxy does not answer in time, or cannot reach port {port} of the server",
    Kind.REFUSED: "nothing listens on the proxy's port: check the proxy's URL",
    Kind.UNREACHABLE: "no route to the proxy: check the proxy's URL",
    Kind.NOT_PERMITTED: "this machine's own firewall forbids the connection to the proxy",
    Kind.CLOSED: "the proxy closes the connection without an answer to CONNECT for port {port}",
    Kind.SPEAKS_OTHER: "what answers at the proxy's address is not an HTTP proxy",
}
_TLS: Final[_Rows] = {
    Kind.NO_ANSWER: "the port opens but TLS gets no answer: a filter swallows it",
    Kind.CLOSED: (
        "closed at the first bytes of TLS: the port has no TLS, or a filter that inspects the"
        " protocol or the server's name closes it"
    ),
    Kind.NOT_TLS: "the port answers without TLS: use rtmp or rtmpt on it",
    Kind.TLS_REFUSED: "TLS is refused ({detail}): the server or a filter does not accept it",
    Kind.NOT_TRUSTED: (
        'a proxy that inspects TLS replaced the certificate (issuer "{issuer}"), unless the server'
        " has an authority of its own: give --ca FILE if you trust the issuer"
    ),
    Kind.SELF_SIGNED: (
        'the certificate is self-signed (by "{issuer}"): of the server itself or of an inspecting'
        " proxy; give it by --ca FILE if you trust it"
    ),
    Kind.EXPIRED: "the certificate is outside its validity ({days} days left): check this clock,"
    " or tell the server's operator",
    Kind.OTHER_NAME: (
        'the certificate is for {names} (issuer "{issuer}"): another server answers, such as a'
        " filter's or a captive portal's"
    ),
}
_OPEN: Final[_Rows] = {
    Kind.NO_ANSWER: "the port opens but HTTP gets no answer in time: the server is not RTMPT, or"
    " something holds the request back",
    Kind.CLOSED: "closed after the first bytes: a filter that inspects the protocol, or no RTMPT"
    " server",
    Kind.SPEAKS_HTTP: "the answer is malformed HTTP: use another port",
    Kind.SPEAKS_TLS: "the port speaks TLS: use rtmpts or rtmps on it",
    Kind.SPEAKS_OTHER: "the port does not speak HTTP: use rtmp on it",
    Kind.NOT_A_TUNNEL: "HTTP passes, but a web page answers instead of an RTMPT server: a web server,"
    " or a captive portal that wants a log-in",
}
_HANDSHAKE: Final[_Rows] = {
    Kind.NO_ANSWER: "the port opens but RTMP gets no answer: a filter swallows it, or the server is"
    " not RTMP",
    Kind.CLOSED: "closed after the first bytes: a filter that inspects the protocol, or no RTMP"
    " server",
    Kind.SPEAKS_HTTP: "the port answers but speaks HTTP only: use rtmpt or another port",
    Kind.SPEAKS_TLS: "the port speaks TLS: use rtmps on it",
    Kind.SPEAKS_OTHER: "the port answers but does not speak RTMP ({detail}): use another port",
    Kind.STATUS: "the tunnel opens, but its next command gets {status}: a balancer sends it to"
    " another server, or the server has been restarted meanwhile: test again",
}
_APPLICATION: Final[_Rows] = {
    Kind.NO_ANSWER: "RTMP passes, but the server does not answer to connect in time",
    Kind.CLOSED: "RTMP passes, but the server closes at connect: it does not accept the application",
    Kind.REJECTED: "RTMP passes, but the server rejects the application: {detail}",
    Kind.SPEAKS_OTHER: "RTMP passes, but the answer to connect is damaged ({detail})",
    Kind.STATUS: "RTMP passes, but the tunnel ends at connect (status {status}): the server does not"
    " accept the application",
}
ROWS: Final[Mapping[Step, _Rows]] = {
    Step.LOOK_UP: _LOOK_UP,
    Step.CONNECT: _CONNECT,
    Step.PROXY: _PROXY,
    Step.TLS: _TLS,
    Step.OPEN: _OPEN,
    Step.HANDSHAKE: _HANDSHAKE,
    Step.APPLICATION: _APPLICATION,
}
_OTHERWISE: Final = "unexpected at the step {step} ({kind} {detail}): please report this"

# Refusals by an HTTP proxy that was asked to connect.
_CONNECT_STATUSES: Final = {
    400: "the proxy answers 400: it does not understand CONNECT",
    # tinyproxy's, for a wrong password.
    401: "the proxy answers 401: it does not accept the name and password",
    403: "the proxy answers 403: its rules forbid CONNECT to port {port}; use another port",
    404: "the proxy answers 404: it is a web server, or its rules hide the server",
    405: "the proxy answers 405: it does not permit CONNECT; use rtmpt",
    407: "an HTTP proxy answers 407: {detail}",
    502: "the proxy answers 502: it cannot connect to port {port} of the server",
    503: "the proxy answers 503: it cannot connect to port {port} of the server",
    504: "the proxy answers 504: port {port} of the server does not answer it",
}
_CONNECT_STATUS: Final = "the proxy answers {status} to CONNECT"

# Answers to open. Past a proxy these are of the server, or of a proxy that does not show itself.
_OPEN_STATUSES: Final = {
    301: "HTTP passes, but open is redirected: a web server, or a captive portal; log in first",
    302: "HTTP passes, but open is redirected: a web server, or a captive portal; log in first",
    307: "HTTP passes, but open is redirected: a web server, or a captive portal; log in first",
    308: "HTTP passes, but open is redirected: a web server, or a captive portal; log in first",
    400: "HTTP passes, but open gets 400: no RTMPT server, or a port for TLS",
    403: "open gets 403: a filter between forbids it, or the web server there does",
    404: "the port answers but speaks HTTP only, not RTMPT (404): use another port",
    405: "the port answers but speaks HTTP only, not RTMPT (405): use another port",
    407: "an HTTP proxy answers 407: {detail}",
    502: "open gets 502: the proxy in front cannot reach the RTMPT server",
    503: "open gets 503: the gateway or a proxy takes no session now; is the media server up?",
    504: "open gets 504: the RTMPT server does not answer the proxy in front",
    511: "open gets 511: a captive portal wants a log-in",
}
_PROXIED_STATUSES: Final = {
    401: "the proxy answers 401: it does not accept the name and password",
    403: "the proxy answers 403: its rules forbid the server or the port",
    502: "the proxy answers 502: it cannot connect to port {port} of the server",
    503: "the proxy answers 503: it cannot connect to port {port}, or the gateway takes no session",
    504: "the proxy answers 504: port {port} of the server does not answer it",
}
_OPEN_STATUS: Final = "HTTP passes, but open gets {status}: no RTMPT server"

_REPLACED: Final = (
    'a proxy replaced the certificate (issuer "{issuer}"; another way shows "{other}"): give --ca'
    " FILE if you trust the issuer"
)


def verdict_on(trial: Trial, trials: Iterable[Trial] = ()) -> str:
    """One sentence on the trial's failure; empty without one. ``trials``: all, to compare with."""
    failure = trial.failure
    if failure is None:
        return ""
    other = _trusted_issuer(trials)
    row = _row(trial, failure)
    if failure.kind is Kind.NOT_TRUSTED and other is not None:
        row = _REPLACED
    return row.format(**_facts(trial, failure), other=other)


def remarks_on(trial: Trial, trials: Sequence[Trial] = ()) -> list[str]:
    """What may disturb a way that works, and what was found of its stream."""
    return [
        *_of_certificate(trial, trials),
        *_of_stream(trial),
        *_of_holding(trial),
        *_of_throughput(trial),
    ]


def bit_rate(bytes_per_s: float) -> str:
    """A throughput, in words."""
    bits = bytes_per_s * 8
    if bits < 999_500:
        return f"{bits / 1e3:.0f} kbit/s"
    return f"{bits / 1e6:.1f} Mbit/s" if bits < 9.95e6 else f"{bits / 1e6:.0f} Mbit/s"


def _row(trial: Trial, failure: Failure) -> str:
    if failure.kind is Kind.STATUS and failure.step is Step.PROXY:
        return _CONNECT_STATUSES.get(failure.status or 0, _CONNECT_STATUS)
    if failure.kind is Kind.STATUS and failure.step is Step.OPEN:
        plain = trial.route is Route.PROXY and not trial.way.protocol.secure
        statuses = _OPEN_STATUSES | _PROXIED_STATUSES if plain else _OPEN_STATUSES
        return statuses.get(failure.status or 0, _OPEN_STATUS)
    return ROWS.get(failure.step, {}).get(failure.kind, _OTHERWISE)


def _facts(trial: Trial, failure: Failure) -> dict[str, object]:
    certificate = trial.certificate or Certificate("", "unknown", (), 0)
    return {
        "port": trial.way.port,
        "status": failure.status,
        "detail": failure.detail or "no detail",
        "step": failure.step.value,
        "kind": failure.kind.value,
        "issuer": certificate.issuer,
        "names": ", ".join(certificate.names[:3]) or certificate.subject,
        "days": certificate.days_left,
    }


def _trusted_issuer(trials: Iterable[Trial]) -> str | None:
    """The issuer of a certificate that was verified on any way."""
    return next(
        (
            each.certificate.issuer
            for each in trials
            if each.certificate is not None and Step.TLS in each.times_ms
        ),
        None,
    )


def _of_certificate(trial: Trial, trials: Iterable[Trial]) -> list[str]:
    certificate = trial.certificate
    if certificate is None:
        return []
    remarks = []
    if certificate.days_left < _FEW_DAYS:
        remarks.append(f"the certificate ends in {certificate.days_left} days")
    if trial.route is Route.PROXY:
        direct = {each.certificate for each in trials if _shows_direct_certificate(each, trial)}
        issuers = {each.issuer for each in direct if each is not None}
        if issuers and certificate.issuer not in issuers:
            remarks.append(
                f'the proxy inspects TLS: its certificate is by "{certificate.issuer}", the'
                f' server\'s by "{min(issuers)}"'
            )
    return remarks


def _shows_direct_certificate(trial: Trial, proxied: Trial) -> bool:
    return trial.route is not Route.PROXY and trial.way.port == proxied.way.port


def _of_stream(trial: Trial) -> list[str]:
    if trial.media is None:
        return []
    if trial.media:
        return ["the stream plays"]
    code = trial.stream_code or "no answer to play"
    return [f"the stream sent no media ({code}), so it may not be published"]


def _of_holding(trial: Trial) -> list[str]:
    holding = trial.holding
    if holding is None:
        return []
    remarks = []
    if holding.cut_after_ms is not None:
        cut_s = holding.cut_after_ms / 1000
        remarks.append(f"something on the way cuts a request that waits for {cut_s:.1f} s")
    if holding.closes:
        remarks.append("a proxy closes the connection after an answer: FFmpeg gives up on that")
    if holding.delivery is Delivery.BUFFERED:
        remarks.append("answers are buffered on the way, so that the stream comes in bursts")
    return remarks


def _of_throughput(trial: Trial) -> list[str]:
    found = trial.throughput
    if found is None:
        return []
    remarks = [] if found.cause is None else [_UNMEASURED[found.cause]]
    most = max(found.up or 0.0, found.down or 0.0)
    if found.limit is not None and most >= _AT_LIMIT * found.limit:
        remarks.append(
            f"the server limits measurements to {bit_rate(found.limit)}; the way may have more"
        )
    return remarks
