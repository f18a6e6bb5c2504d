"""The telemetry of one worker: creates its parts, and connects them with their sources.

The admin server uses ``sessions`` for single sessions, and the collectors for Prometheus.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic, thread_time, time
from typing import TYPE_CHECKING, final

from gateway.configuration.sections import Config
from gateway.listeners.certificates import CertificateStore
from gateway.listeners.connections import ConnectionSet
from gateway.listeners.protocol_detection import ListenerState
from gateway.protocols.ingress import UDP_SCHEME
from gateway.protocols.reasons import EndReason
from gateway.protocols.rtmp.mirror_states import MirrorState
from gateway.telemetry.births import BirthWatch
from gateway.telemetry.exposition.labels import Entrance, Expected
from gateway.telemetry.exposition.session_collector import SessionCollector
from gateway.telemetry.exposition.sources import (
    DatagramFigures,
    PortTestCounts,
    Sources,
    UpstreamHealth,
)
from gateway.telemetry.exposition.worker_collector import WorkerCollector
from gateway.telemetry.logs.access_log import AccessLog
from gateway.telemetry.logs.refusals import RefusalLog
from gateway.telemetry.logs.session_log import SessionEndLog, SessionStartLog
from gateway.telemetry.measurement.event_loop import Loop
from gateway.telemetry.measurement.totals import UpstreamCounts
from gateway.telemetry.observer import SessionObserver
from gateway.telemetry.replaced_publishers import ReplacedPublishers
from gateway.telemetry.sessions import Sessions
from gateway.upstreams.pool import Pool
from gateway.workers.access import EndedStreams
from gateway.workers.configured_files import writing_access_log
from gateway.workers.peering.other_workers import OtherWorkers

if TYPE_CHECKING:
    from gateway.upstreams.callbacks import Callbacks


@final
class WorkerFigures:
    """``sweep_s``: the interval of ``loop.sample``. ``buffers_bytes``: the limit on all buffers.

    ``listener_states`` is keyed by the listener's address, and may be filled later; so may ``pool``.
    ``callbacks``: those of access control. ``mirrors``: returns their states.
    """

    def __init__(
        self,
        configuration: Config,
        sweep_s: float,
        buffers_bytes: int,
        connections: ConnectionSet,
        listener_states: Mapping[str, ListenerState],
        others: OtherWorkers,
        callbacks: Callbacks | None = None,
        mirrors: Callable[[], Sequence[MirrorState]] = lambda: (),
    ) -> None:
        self._configuration = configuration
        self._access = _access_log(configuration)
        self._listener_states = listener_states
        # The figures of UDP listeners by the configured address.
        self.udp: dict[str, DatagramFigures] = {}
        self.mirrors = mirrors
        self.pool: Pool | None = None
        self.certificates: CertificateStore | None = None
        self.upstreams = UpstreamCounts()
        self.loop = Loop(sweep_s, thread_time)
        replaces = configuration.tunnel.replace_publisher
        # None if publishers are not replaced.
        self.publishers = ReplacedPublishers(self._replace, monotonic) if replaces else None
        expected = expected_of(configuration)
        self.sessions = self._make_sessions(expected, callbacks)
        self._sources = Sources(
            *(configuration.limits, buffers_bytes, connections.__len__, self._listener_counts),
            *(self.upstream_health, self._certificate_ends, expected),
            lambda: others.forwarded,
            lambda: others.node_states,
            lambda: others.offers.counts,
            callbacks.results if callbacks is not None else {},
            mirrors,
            udp=self.udp,
        )
        self.metrics = WorkerCollector(self.sessions, self.loop, self._sources)
        self.session_metrics = SessionCollector(
            self.sessions, configuration.telemetry.session_series
        )

    def _make_sessions(self, expected: Expected, callbacks: Callbacks | None) -> Sessions:
        """The sessions' telemetry. Totals of the expected protocols exist before their first session."""
        settings = self._configuration.telemetry
        ended_streams = EndedStreams(callbacks) if callbacks is not None else None
        observers = _observers(self.upstreams, self._access, self.publishers, ended_streams)
        made = Sessions(
            *(monotonic, time, observers),
            *(settings.enabled, settings.media, settings.session_series),
        )
        if settings.enabled:
            for protocol in expected.protocols:
                made.totals.protocol(protocol)
        return made

    def watch_port_test(self, counts: Callable[[], PortTestCounts]) -> None:
        """Expose the counts of the port test."""
        self._sources.port_test = counts

    def open_logs(self) -> None:
        """Must be called before the first session, as the user who writes. Raises ConfigurationError."""
        if self._access is None:
            return
        with writing_access_log(self._configuration):
            self._access.open()

    def reopen_logs(self) -> bool:
        """Reopen rotated log files. Returns whether there are any."""
        if self._access is not None:
            self._access.reopen()
        return self._access is not None

    def close(self) -> None:
        """Close the log files."""
        if self._access is not None:
            self._access.close()

    def _replace(self, alias: str) -> None:
        self.sessions.dismiss(alias, EndReason.REPLACED)

    def forget_server(self, server: str) -> None:
        """A server of a service has left, and has no sessions: its figures end."""
        self.upstreams.forget(server)
        self.sessions.forget_server(server)
        self.metrics.forget_server(server)

    def upstream_health(self) -> list[UpstreamHealth]:
        """The upstream servers; none before ``pool`` is set."""
        counts = self.upstreams
        return [
            UpstreamHealth(
                *(each.name, each.up, each.due),
                *(counts.failures_of(each.name), counts.dials_of(each.name)),
                each.tried_at,
                *(self.sessions.unanswered_s(each.name), self.sessions.heard_s(each.name)),
                drained=each.drained,
                state=each.state,
                weight=each.weight,
                sessions=each.sessions,
                group=each.group,
                waiting=each.waiting,
                failure_reasons=dict(counts.reasons_of(each.name)),
                addresses=each.addresses,
                failed_look_ups=each.failed_look_ups,
                stale=each.stale,
                service=each.service,
                named_only=each.named_only,
            )
            for each in (self.pool.health() if self.pool is not None else ())
        ]

    def _listener_counts(self) -> list[tuple[str, Mapping[str, int]]]:
        return [(name, state.counts) for name, state in self._listener_states.items()]

    def _certificate_ends(self) -> list[tuple[str, float]]:
        if self.certificates is None:
            return []
        return [(str(each.file), each.not_after_s) for each in self.certificates.current.expiries]


def _access_log(configuration: Config) -> AccessLog | None:
    log = configuration.log
    if not log.access:
        return None
    return AccessLog(Path(log.access), log.lines_per_s, monotonic, time)


def _observers(
    upstreams: UpstreamCounts, *configured: SessionObserver | None
) -> list[SessionObserver]:
    return [
        *(SessionStartLog(), SessionEndLog(), RefusalLog(), BirthWatch(upstreams)),
        *(each for each in configured if each is not None),
    ]


def expected_of(configuration: Config) -> Expected:
    """The label values that can occur with this configuration."""
    return Expected(
        tuple(
            Entrance(
                str(each.address),
                each.tls,
                each.proxy_protocol,
                bool(each.allow or each.deny),
                configuration.cross_domain is not None,
            )
            for each in configuration.listeners
        ),
        configuration.telemetry.media,
        tuple((str(each.address), f"{UDP_SCHEME}{each.server}") for each in configuration.udp),
    )
