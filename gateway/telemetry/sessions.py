"""The sessions of a worker: active ones, recently ended ones, and the sums over all.

The session tables report the beginning and end of each session. Counters are read from sessions on request.
A sum has the ended sessions, added up at their ends, plus the active ones.

Active sessions are distributed to groups by alias. Every ``TURN_S``, the latencies of one group advance to
the next half minute, so each session's do every ``SLICE_S``, and no call takes long. Two other groups count
their pending values, so the totals are at most ten seconds late.

For several workers, the results are concatenated.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, final

from attrs import frozen

from gateway.errors import RequestRefused
from gateway.protocols.ingress import Ingress
from gateway.protocols.reasons import EndReason
from gateway.telemetry.logs.refusals import cause_of
from gateway.telemetry.measurement.figures import Figures
from gateway.telemetry.measurement.history import SAMPLE_S, SAMPLED, History
from gateway.telemetry.measurement.latency import SLICE_S
from gateway.telemetry.measurement.silence import Silences
from gateway.telemetry.measurement.totals import Totals
from gateway.telemetry.observer import Observers, SessionObserver
from gateway.telemetry.summary import Measured, Summary, summarise

_GROUPS: Final = 300
TURN_S: Final = SLICE_S / _GROUPS
# The counts that are added up over sessions.
COUNTS: Final = (
    *("bytes_up", "bytes_down", "sends", "idles", "closes", "holds"),
    *("empty_answers", "filled_answers", "repeats", "early"),
    *("prompt_ups", "prompt_downs"),
    *("streamed_answers", "streamed_bytes", "streamed_s"),
)
# The number of ended sessions on the status page.
NEWEST_ENDED: Final = 20
# The labels of a sum: protocol, listener and upstream.
Labels = tuple[str, str, str]


@frozen
class SessionFilter:
    """Criteria for sessions; all must match. Empty ones match all sessions. ``alias`` is a prefix."""

    alias: str = ""
    stream: str = ""
    upstream: str = ""
    protocol: str = ""

    def takes(self, session: Measured) -> bool:
        """Whether ``session`` matches."""
        return (
            session.alias.startswith(self.alias)
            and self.upstream in ("", session.server)
            and self.protocol in ("", session.ingress.protocol)
            and self.stream in ("", _stream_of(session))
        )

    def takes_summary(self, summary: Summary) -> bool:
        """Whether the session of ``summary`` matches."""
        return (
            summary.alias.startswith(self.alias)
            and self.upstream in ("", summary.upstream)
            and self.protocol in ("", summary.protocol)
            and self.stream in ("", summary.stream)
        )


ALL: Final = SessionFilter()


@final
class Sessions:
    """The sessions of a worker. ``clock`` is monotonic; ``wall_clock`` gives seconds since 1970.

    Up to ``keep_ended`` ended sessions are stored until ``forget_ended``. If not ``enabled``, nothing is
    measured.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        records: Iterable[SessionObserver] = (),
        enabled: bool = True,
        media: bool = False,
        keep_ended: int = 1000,
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._records = Observers(records)
        self._enabled = enabled
        self._media = media
        self._keep_ended = keep_ended
        self._groups: list[dict[str, Measured]] = [{} for _ in range(_GROUPS)]
        self._turned = 0
        self._ended: dict[str, Summary] = {}
        self._newest_ended: deque[Summary] = deque(maxlen=NEWEST_ENDED)
        self._sums: dict[Labels, list[float]] = {}
        self.totals = Totals()
        self._silences = Silences()
        self.opened: Counter[Labels] = Counter()
        # Active sessions, by protocol.
        self.active: Counter[str] = Counter()
        self.ended: Counter[tuple[str, str]] = Counter()
        self.refused: Counter[str] = Counter()

    def __len__(self) -> int:
        return sum(map(len, self._groups))

    # Called by the session tables

    def measure(self, ingress: Ingress) -> Figures | None:
        """Create the figures of a new session; None if nothing is measured."""
        if not self._enabled:
            return None
        return Figures(self.totals.protocol(ingress.protocol), self._media)

    def session_opened(self, session: Measured) -> None:
        """A session is open. If it has no server yet, ``session_placed`` must follow."""
        self._group(session.alias)[session.alias] = session
        self.active[session.ingress.protocol] += 1
        if session.server:
            self.session_placed(session, self._clock() - session.opened_at)

    def session_placed(self, session: Measured, seconds: float) -> None:
        """An open session has got its server, after connecting to it for ``seconds``."""
        now = self._clock()
        if session.figures is not None:
            session.figures.connected(seconds)
        self.opened[_labels(session)] += 1
        if self._records:
            summary = summarise(session, now, self._wall_clock())
            self._records.opened(summary)
            self._notice_stream(session)

    def session_ended(self, session: Measured, reason: EndReason) -> None:
        self.ended[session.ingress.protocol, reason.value] += 1
        if self._group(session.alias).pop(session.alias, None) is None:
            # A relay without an upstream connection: a refused open.
            return
        self.active[session.ingress.protocol] -= 1
        _add(self._sums.setdefault(_labels(session), [0] * len(COUNTS)), counts_of(session))
        if session.figures is not None:
            session.figures.facts.noticed = None
        summary = summarise(session, self._clock(), self._wall_clock(), reason)
        self._records.ended(summary)
        self._remember(summary)

    def open_refused(self, error: RequestRefused, address: str, ingress: Ingress) -> None:
        self.refused[cause_of(type(error))] += 1
        self._records.refused(error, address, ingress)

    # Called by the worker's timer

    def turn(self) -> None:
        """Advance the latencies of the next group. Must be called every ``TURN_S``."""
        now = self._clock()
        self._turned = (self._turned + 1) % _GROUPS
        for session in self._groups[self._turned].values():
            if session.figures is not None:
                self._sample(session, now)
                session.figures.turn(*session.counted.moments)
        for other in (_GROUPS // 3, 2 * _GROUPS // 3):
            for session in self._groups[(self._turned + other) % _GROUPS].values():
                if session.figures is not None:
                    session.figures.settle()
                    self._sample(session, now)

    def _sample(self, session: Measured, now: float) -> None:
        counted, opened_at = session.counted, session.opened_at
        if session.server:
            self._silences.look(session.server, counted, session.figures, opened_at, now)
        session.figures.sample(counted, opened_at, now)

    # Called to show sessions

    def unanswered_s(self, server: str) -> float:
        """Seconds since the opening of the server's oldest session without an answer; 0.0 for none."""
        return self._silences.unanswered_s(server, self._clock())

    def heard_s(self, server: str) -> float:
        """Seconds since the server is known to have sent data; ``inf`` if it has not."""
        return self._silences.heard_s(server, self._clock())

    def has_of(self, server: str) -> bool:
        """Whether a session of the server is active, which can have lost its upstream connection."""
        return any(session.server == server for session in self.living())

    def forget_server(self, server: str) -> None:
        """A server without sessions is no longer used. Its sums end, so that these cannot grow for ever."""
        self._silences.forget(server)
        for counts in (self._sums, self.opened):
            for labels in [labels for labels in counts if labels[-1] == server]:
                del counts[labels]

    def living(self, wanted: SessionFilter = ALL) -> Iterator[Measured]:
        """The matching sessions that are active at the first step. They may end during the iteration."""
        for group in self._groups:
            for session in tuple(group.values()):
                if wanted is ALL or wanted.takes(session):
                    yield session

    def summaries(self, wanted: SessionFilter = ALL) -> Iterator[Summary]:
        """The summaries of active sessions, at about 50 us each. The caller should yield after a few."""
        for session in self.living(wanted):
            yield summarise(session, self._clock(), self._wall_clock())

    def summary(self, alias: str) -> Summary | None:
        """The summary of an active or recently ended session; None if the alias is unknown."""
        session = self._group(alias).get(alias)
        if session is None:
            return self._ended.get(alias)
        return summarise(session, self._clock(), self._wall_clock())

    def wall_now(self) -> float:
        """Seconds since 1970."""
        return self._wall_clock()

    def history(self, alias: str) -> History | None:
        """The history of an active session; None if it has none."""
        session = self._group(alias).get(alias)
        figures = session.figures if session is not None else None
        return None if figures is None else figures.history

    def history_of(self, alias: str) -> dict[str, Any] | None:
        """The history as plain values, empty in a session's first seconds; None if it is not active."""
        if alias not in self._group(alias):
            return None
        found = self.history(alias)
        age_s = found.since_sample_s(self._clock()) if found is not None else 0.0
        samples = found.samples() if found is not None else []
        return {
            "every_s": SAMPLE_S,
            "age_s": round(age_s, 3),
            "samples": [dict(zip(SAMPLED, map(_rounded, each), strict=True)) for each in samples],
        }

    def last_ended(self, most: int) -> list[Summary]:
        """The most recently ended sessions, newest first. ``forget_ended`` does not affect them."""
        return list(self._newest_ended)[: -most - 1 : -1]

    def dismiss(self, alias: str, reason: EndReason = EndReason.ENDED_BY_OPERATOR) -> bool:
        """End a session. Returns False if no active session has the alias."""
        session = self._group(alias).get(alias)
        if session is None:
            return False
        session.dismiss(reason)
        return True

    def hold(self, alias: str) -> Callable[[], None]:
        """Hold back what an active session sends upstream. Returns the call that releases it."""
        session = self._group(alias).get(alias)
        if session is None:
            return lambda: None
        session.hold_upstream(True)
        return lambda: session.hold_upstream(False)

    def just_ended(self, wanted: SessionFilter = ALL) -> list[Summary]:
        """The summaries of the stored ended sessions, oldest first."""
        return [each for each in self._ended.values() if wanted.takes_summary(each)]

    def forget_ended(self, summaries: Iterable[Summary]) -> None:
        """Discard these ended sessions."""
        for summary in summaries:
            self._ended.pop(summary.alias, None)

    def sums(self) -> tuple[dict[Labels, list[float]], list[Measured]]:
        """The sums of all ended sessions, and the active sessions, whose counts must be added.

        Sessions without a server are left out: their counts belong to the one that they will have.
        """
        ended = {labels: list(counts) for labels, counts in self._sums.items()}
        return ended, [session for session in self.living() if session.server]

    def _notice_stream(self, session: Measured) -> None:
        def tell() -> None:
            summary = summarise(session, self._clock(), self._wall_clock())
            if summary.action:
                self._records.stream_began(summary)
            else:
                self._records.stream_unknown(summary)

        facts = session.figures.facts if session.figures is not None else None
        if facts is None or facts.action or facts.unreadable:
            tell()
        else:
            facts.noticed = tell

    def _group(self, alias: str) -> dict[str, Measured]:
        return self._groups[hash(alias) % _GROUPS]

    def _remember(self, summary: Summary) -> None:
        self._newest_ended.append(summary)
        if len(self._ended) >= self._keep_ended:
            if not self._keep_ended:
                return
            del self._ended[next(iter(self._ended))]
        self._ended[summary.alias] = summary


def counts_of(session: Measured) -> tuple[float, ...]:
    """The session's ``COUNTS``."""
    counted, figures = session.counted, session.figures
    ups, downs = counted.moments if figures is not None else (0, 0)
    return (
        counted.bytes_up,
        counted.bytes_down,
        counted.sends,
        counted.idles,
        counted.closes,
        counted.holds,
        counted.empty_answers,
        counted.filled_answers,
        counted.repeats,
        counted.early,
        ups - figures.upstream_delay.late if figures is not None else 0,
        downs - figures.downstream_wait.late if figures is not None else 0,
        counted.streamed_answers,
        counted.streamed_bytes,
        counted.streamed_s,
    )


def add_living(sums: dict[Labels, list[float]], session: Measured) -> None:
    """Add the counts of an active session."""
    labels = _labels(session)
    found = sums.get(labels)
    if found is None:
        found = sums[labels] = [0] * len(COUNTS)
    _add(found, counts_of(session))


def _add(sums: list[float], counts: Iterable[float]) -> None:
    for index, count in enumerate(counts):
        sums[index] += count


def _rounded(value: float) -> float:
    """Round to the precision of a sample."""
    return float(f"{value:.4g}")


def _labels(session: Measured) -> Labels:
    return session.ingress.protocol, session.ingress.listener, session.server


def _stream_of(session: Measured) -> str:
    facts = session.figures.facts if session.figures is not None else None
    return facts.stream if facts is not None else ""
