"""A snapshot of one session for the status page, metrics and logs, in plain values.

It does not contain the session id, which is a credential, but the alias. Text from the client (software,
application, stream, proxies) is truncated. Consumers must escape it.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from attrs import frozen

from gateway.protocols.http import Fields
from gateway.protocols.ingress import Ingress
from gateway.protocols.reasons import EndReason
from gateway.protocols.tunnel_client.requests import CLIENT_PRODUCT
from gateway.protocols.tunnel_options import ClientFigures
from gateway.telemetry.measurement.figures import Figures
from gateway.telemetry.measurement.latency import Estimate
from gateway.telemetry.measurement.silence import unanswered_s
from gateway.telemetry.measurement.tcp_info import TcpInfo, read_tcp_info

_CLIENT_CHARACTERS: Final = 128


class Measured(Protocol):
    """The properties of a tunnel or relay that are shown."""

    @property
    def alias(self) -> str: ...

    @property
    def address(self) -> str: ...

    @property
    def server(self) -> str: ...

    @property
    def opened_at(self) -> float: ...

    @property
    def ingress(self) -> Ingress: ...

    @property
    def opening_fields(self) -> Any:
        """The fields of the open request, if there was one."""

    @property
    def figures(self) -> Any: ...

    @property
    def counted(self) -> Any: ...

    def hold_upstream(self, on: bool) -> None:
        """Hold back data for the upstream, or send what was held back."""

    def dismiss(self, reason: EndReason) -> None:
        """End the session."""


@frozen
class Summary:
    """The figures of one session. Times are in seconds, ``opened_at`` since 1970.

    ``reason`` is "" while it is active. ``latencies``: those with values in the last minute.
    ``quiet_up_s``, ``quiet_down_s``: time without media; None in a session's first seconds.
    ``unanswered_s``: how long the media server has not answered its handshake.
    ``resumed_s``: time since the stream resumed after a pause of ``pause_s``; None if it has not paused.
    ``client_figures``: what the tunnel client has measured.
    """

    alias: str
    protocol: str
    listener: str
    upstream: str
    address: str
    client: str
    proxies: tuple[str, ...]
    application: str
    stream: str
    action: str
    state: str
    reason: str
    opened_at: float
    duration_s: float
    upstream_connect_s: float
    latencies: dict[str, Estimate]
    media_drift_s: float | None
    tcp: TcpInfo | None
    connections: int
    bytes_up: int
    bytes_down: int
    buffered_bytes: int
    sends: int
    idles: int
    closes: int
    repeats: int
    reorders: int
    held_answers: int
    empty_answers: int
    filled_answers: int
    streaming: str = ""
    streamed_answers: int = 0
    streamed_bytes: int = 0
    streamed_s: float = 0.0
    quiet_up_s: float | None = None
    quiet_down_s: float | None = None
    resumed_s: float | None = None
    pause_s: float = 0.0
    unanswered_s: float = 0.0
    client_figures: ClientFigures | None = None

    def as_dict(self) -> dict[str, Any]:
        """The values in types of JSON."""
        found = _plain(self)
        found["proxies"] = list(self.proxies)
        found["latencies"] = {name: _plain(value) for name, value in self.latencies.items()}
        for name in ("tcp", "client_figures"):
            found[name] = None if found[name] is None else _plain(found[name])
        return found


def _plain(value: Any) -> dict[str, Any]:
    """The attributes by name, with times rounded to microseconds."""
    found = {each.name: getattr(value, each.name) for each in value.__attrs_attrs__}
    return {name: round(each, 6) if type(each) is float else each for name, each in found.items()}


def summarise(
    measured: Measured, now: float, wall_now: float, reason: EndReason | None = None
) -> Summary:
    """Create the summary of ``measured`` at ``now``. ``wall_now``: the same in seconds since 1970."""
    counted, figures = measured.counted, measured.figures or _NO_FIGURES
    facts = figures.facts or _NO_FACTS
    history = figures.history
    return Summary(
        alias=measured.alias,
        protocol=measured.ingress.protocol,
        listener=measured.ingress.listener,
        upstream=measured.server,
        address=measured.address,
        client=_client_of(measured.opening_fields, facts),
        proxies=figures.vias,
        application=facts.application,
        stream=facts.stream,
        action=facts.action,
        state="ended" if reason else counted.position,
        reason=reason.value if reason else "",
        opened_at=wall_now - (now - measured.opened_at),
        duration_s=now - measured.opened_at,
        upstream_connect_s=figures.connect_s,
        latencies=figures.estimates(*counted.moments),
        media_drift_s=facts.drift_s,
        tcp=read_tcp_info(figures.transport),
        connections=figures.connections,
        bytes_up=counted.bytes_up,
        bytes_down=counted.bytes_down,
        buffered_bytes=0 if reason else counted.buffered_bytes,
        sends=counted.sends,
        idles=counted.idles,
        closes=counted.closes,
        repeats=counted.repeats,
        reorders=counted.early,
        held_answers=counted.holds,
        empty_answers=counted.empty_answers,
        filled_answers=counted.filled_answers,
        streaming=counted.streaming,
        streamed_answers=counted.streamed_answers,
        streamed_bytes=counted.streamed_bytes,
        streamed_s=counted.streamed_s,
        quiet_up_s=history and history.quiet_up_s(counted.bytes_up, now),
        quiet_down_s=history and history.quiet_down_s(counted.bytes_down, now),
        resumed_s=now - history.resumed_at if history and history.resumed_at else None,
        pause_s=history.pause_s if history else 0.0,
        unanswered_s=0.0 if reason else unanswered_s(counted, measured.opened_at, now),
        client_figures=figures.client_figures,
    )


def _client_of(fields: Fields | None, facts: Any) -> str:
    """The client's software: from its stream if that can be read, else from its requests. The tunnel
    client carries the stream of another program, which is added in brackets.
    """
    raw = (fields.value(b"user-agent") if fields else None) or b""
    agent = raw[:_CLIENT_CHARACTERS].decode("latin-1")
    program = str(facts.flash_version)
    if program and agent.startswith(f"{CLIENT_PRODUCT}/"):
        return f"{agent} ({program})"[:_CLIENT_CHARACTERS]
    return program or agent


class _NoFacts:
    application = stream = action = flash_version = ""
    drift_s: float | None = None


class _NoFigures:
    facts = transport = history = client_figures = None
    vias: tuple[str, ...] = ()
    connect_s = 0.0
    connections = 0

    def estimates(self, ups: int, downs: int) -> dict[str, Estimate]:
        return {}


_NO_FACTS: Final = _NoFacts()
_NO_FIGURES: Figures | Any = _NoFigures()
