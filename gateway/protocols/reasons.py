"""Why a session or a relayed connection ended: one closed list, for the log, the metrics and the code.

A reason is told once, at the one end of each session. ``ABANDONED`` is no failure: players race RTMPT
against RTMP and drop the loser (PROTOCOL.md, What each client needs). A peer has *vanished* when
its network takes no packets any more; it is *lost* when the connection was reset. A publisher is *replaced*
by its own newer session.
"""

from __future__ import annotations

from enum import Enum


class EndReason(Enum):
    """The value is the label that logs and metrics show."""

    CLIENT_CLOSED = "client_closed"
    CLIENT_LOST = "client_lost"
    CLIENT_SILENT = "client_silent"
    CLIENT_STALLED = "client_stalled"
    CLIENT_VANISHED = "client_vanished"
    REPLACED = "replaced"
    ABANDONED = "abandoned"
    SEQUENCE_GAP = "sequence_gap"
    WINDOW_FULL = "window_full"
    UPSTREAM_CLOSED = "upstream_closed"
    UPSTREAM_LOST = "upstream_lost"
    UPSTREAM_STALLED = "upstream_stalled"
    UPSTREAM_VANISHED = "upstream_vanished"
    UPSTREAM_UNAVAILABLE = "upstream_unavailable"
    RESOURCES_EXHAUSTED = "resources_exhausted"
    DRAINED = "drained"
    ENDED_BY_OPERATOR = "ended_by_operator"
    FAULT = "fault"
