"""The states of mirrors and of their streams, as plain values that can be merged over workers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from attrs import evolve, field, frozen

# States of a stream at a mirror. "waiting": for the next try after a failure; "ending": the rest of the
# stream is sent.
STREAM_STATES: Final = ("connecting", "publishing", "waiting", "ending", "ended")
# The streams of a mirror that are listed. More: the list delays other tunnels.
SHOWN_STREAMS: Final = 500


@frozen
class MirroredStream:
    """A stream at a mirror. ``stream``: its application and name here; those there may be secret.

    ``state``: one of ``STREAM_STATES``, for ``state_s`` seconds. ``server``: the last one that accepted
    a connection. ``queued_bytes``: of messages that wait for the server. ``left_out``: the number of
    messages that it did not get although it had accepted the publish. ``failures``: connections that failed
    or ended early, the last one because of ``last_error``. ``next_try_s``: until the next try, else 0.
    """

    stream: str
    state: str
    state_s: float
    server: str
    queued_bytes: int
    left_out: int
    failures: int
    last_error: str
    next_try_s: float


@frozen
class MirrorState:
    """A mirror. ``publishing`` and ``waiting``: the number of streams that are published there, and of
    those that are not; ``failures`` and ``left_out`` are sums since the start. ``streams``: those that are
    published here, and some that ended last.
    """

    name: str
    publishing: int = 0
    waiting: int = 0
    failures: int = 0
    left_out: int = 0
    queued_bytes: int = 0
    streams: Sequence[MirroredStream] = field(factory=list)


def merged_mirrors(workers: Iterable[Sequence[MirrorState]]) -> list[MirrorState]:
    """The mirrors of all workers, with up to ``SHOWN_STREAMS`` streams each."""
    found: dict[str, MirrorState] = {}
    for each in (one for mirrors in workers for one in mirrors):
        known = found.get(each.name, MirrorState(each.name))
        found[each.name] = evolve(
            known,
            publishing=known.publishing + each.publishing,
            waiting=known.waiting + each.waiting,
            failures=known.failures + each.failures,
            left_out=known.left_out + each.left_out,
            queued_bytes=known.queued_bytes + each.queued_bytes,
            streams=[*known.streams, *each.streams][:SHOWN_STREAMS],
        )
    return list(found.values())
