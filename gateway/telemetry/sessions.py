"""All sessions of a worker as telemetry knows them: the living, those that just ended, and sums of all.

Both tables tell it of every session's beginning and end, and nothing in between; what a session counts is
read from the session when somebody asks. Sums are what has ended (added up at each end) plus what lives.

The living are spread over groups by their aliases. Every ``TURN_S`` the minute of one group is moved on, so
that each session's is moved every ``SLICE_S`` and no turn takes long; and two other groups count what is
pending, so that the totals are never more than ten seconds late.

Who shows the sessions of several workers concatenates what each says here.
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
from gateway.telemetry.observer import SessionObserver
from gateway.telemetry.summary import Measured, Summary, summarise

_GROUPS: Final = 300
TURN_S: Final = SLICE_S / _GROUPS
# What is summed up over sessions, in this order.
COUNTS: Final = (
    *("bytes_up", "bytes_down", "sends", "idles", "closes", "holds"),
    *("empty_answers", "filled_answers", "repeats", "early"),
    *("prompt_ups", "prompt_downs"),
    *("streamed_answers", "streamed_bytes", "streamed_s"),
)
# Ended sessions that the status page lists, whatever is scraped.
NEWEST_ENDED: Final = 20
# The labels of a sum: protocol, listener, upstream.
Labels = tuple[str, str, str]


@frozen
class SessionFilter:
    """Which sessions are meant: all that fit what is given. ``alias`` is a prefix."""

    alias: str = ""
    stream: str = ""
    upstream: str = ""
    protocol: str = ""

    def takes(self, session: Measured) -> bool:
        """Whether ``session`` is meant."""
        return (
            session.alias.startswith(self.alias)
            and self.upstream in ("", session.server)
            and self.protocol in ("", session.ingress.protocol)
            and self.stream in ("", _stream_of(session))
        )

    def takes_summary(self, summary: Summary) -> bool:
        """Whether the session that ``summary`` is of is meant."""
        return (
            summary.alias.startswith(self.alias)
            and self.upstream in ("", summary.upstream)
            and self.protocol in ("", summary.protocol)
            and self.stream in ("", summary.stream)
        )


ALL: Final = SessionFilter()


@final
class Sessions:
    """``clock`` never goes back, ``wall_clock`` gives seconds since 1970. ``keep_ended`` sessions are
    remembered after their end, until ``forget_ended``. Not ``enabled``, nothing is measured."""

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
        self._records = tuple(records)
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
        self.ended: Counter[tuple[str, str]] = Counter()
        self.refused: Counter[str] = Counter()

    def __len__(self) -> int:
        return sum(map(len, self._groups))

    # The tables call

    def measure(self, ingress: Ingress) -> Figures | None:
        """The figures of a session that is about to begin; None when nothing is to be measured."""
        if not self._enabled:
            return None
        return Figures(self.totals.protocol(ingress.protocol), self._media)

    def session_opened(self, session: Measured) -> None:
        now = self._clock()
        if session.figures is not None:
            session.figures.connected(now - session.opened_at)
        self._group(session.alias)[session.alias] = session
        self.opened[_labels(session)] += 1
        if self._records:
            summary = summarise(session, now, self._wall_clock())
            for record in self._records:
                record.opened(summary)
            self._notice_stream(session)

    def session_ended(self, session: Measured, reason: EndReason) -> None:
        self.ended[session.ingress.protocol, reason.value] += 1
        if self._group(session.alias).pop(session.alias, None) is None:
            # A relay whose upstream never stood: an open that was refused.
            return
        _add(self._sums.setdefault(_labels(session), [0] * len(COUNTS)), counts_of(session))
        if session.figures is not None:
            session.figures.facts.noticed = None
        summary = summarise(session, self._clock(), self._wall_clock(), reason)
        for record in self._records:
            record.ended(summary)
        self._remember(summary)

    def open_refused(self, error: RequestRefused, address: str, ingress: Ingress) -> None:
        self.refused[cause_of(type(error))] += 1
        for record in self._records:
            record.refused(error, address, ingress)

    # The worker's timer calls

    def turn(self) -> None:
        """Move the minute of the next group on. Owed every ``TURN_S``."""
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
        self._silences.look(session.server, counted, session.figures, opened_at, now)
        session.figures.sample(counted, opened_at, now)

    # Who shows sessions calls

    def silent_s(self, server: str) -> float:
        """For how long a server has answered nothing although sessions wait for it; 0.0 if it answers."""
        return self._silences.silent_s(server, self._clock())

    def living(self, wanted: SessionFilter = ALL) -> Iterator[Measured]:
        """The sessions that lived at the first step and are meant; they may have ended since."""
        for group in self._groups:
            for session in tuple(group.values()):
                if wanted is ALL or wanted.takes(session):
                    yield session

    def summaries(self, wanted: SessionFilter = ALL) -> Iterator[Summary]:
        """The living, one at a time: each takes some 50 us, so take a few and let others run."""
        for session in self.living(wanted):
            yield summarise(session, self._clock(), self._wall_clock())

    def summary(self, alias: str) -> Summary | None:
        """One session, living or just ended; None when there is none of that alias here."""
        session = self._group(alias).get(alias)
        if session is None:
            return self._ended.get(alias)
        return summarise(session, self._clock(), self._wall_clock())

    def wall_now(self) -> float:
        """Seconds since 1970."""
        return self._wall_clock()

    def history(self, alias: str) -> History | None:
        """The last ten minutes of a living session; None when it has no history."""
        session = self._group(alias).get(alias)
        figures = session.figures if session is not None else None
        return None if figures is None else figures.history

    def history_of(self, alias: str) -> dict[str, Any] | None:
        """The same as plain values, empty in a session's first seconds; None when it does not live here."""
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
        """The sessions that ended last, the newest first; the last ones stay when scrapes forget others."""
        return list(self._newest_ended)[: -most - 1 : -1]

    def dismiss(self, alias: str, reason: EndReason = EndReason.ENDED_BY_OPERATOR) -> bool:
        """End a session; False when none of that alias lives here."""
        session = self._group(alias).get(alias)
        if session is None:
            return False
        session.dismiss(reason)
        return True

    def just_ended(self, wanted: SessionFilter = ALL) -> list[Summary]:
        """The last figures of those that ended and were not forgotten yet, oldest first."""
        return [each for each in self._ended.values() if wanted.takes_summary(each)]

    def forget_ended(self, summaries: Iterable[Summary]) -> None:
        """These have been shown for the last time."""
        for summary in summaries:
            self._ended.pop(summary.alias, None)

    def sums(self) -> tuple[dict[Labels, list[float]], list[Measured]]:
        """What all ended sessions came to, and those living whose counts are to be added to it."""
        ended = {labels: list(counts) for labels, counts in self._sums.items()}
        return ended, list(self.living())

    def _notice_stream(self, session: Measured) -> None:
        def tell() -> None:
            summary = summarise(session, self._clock(), self._wall_clock())
            for record in self._records:
                if summary.action:
                    record.stream_began(summary)
                else:
                    record.stream_unknown(summary)

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
    """Add what a living session counts."""
    labels = _labels(session)
    found = sums.get(labels)
    if found is None:
        found = sums[labels] = [0] * len(COUNTS)
    _add(found, counts_of(session))


def _add(sums: list[float], counts: Iterable[float]) -> None:
    for index, count in enumerate(counts):
        sums[index] += count


def _rounded(value: float) -> float:
    """No more digits than a sample has."""
    return float(f"{value:.4g}")


def _labels(session: Measured) -> Labels:
    return session.ingress.protocol, session.ingress.listener, session.server


def _stream_of(session: Measured) -> str:
    facts = session.figures.facts if session.figures is not None else None
    return facts.stream if facts is not None else ""
