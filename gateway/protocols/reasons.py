"""The reasons for the end of a session or relayed connection, as logs and metrics show them.

Each session ends once, with one reason. ``ABANDONED`` is not a failure: players try RTMPT and RTMP at the
same time, and drop the slower connection (PROTOCOL.md, What each client needs). It is also the reason if a
route needs the connect command, and the client sends no valid one in time, and if a client by UDP does not
prove its address in time, or had to make room for another before. A peer has *vanished* if it
stopped acknowledging data; it is *lost* if the connection was reset. A publisher is *replaced* by a newer
session that publishes the same stream. A handshake is *bad* if the gateway takes part in it (RTMPE), and it
is malformed or not completed in time.
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
    BAD_HANDSHAKE = "bad_handshake"
    SEQUENCE_GAP = "sequence_gap"
    WINDOW_FULL = "window_full"
    UPSTREAM_CLOSED = "upstream_closed"
    UPSTREAM_LOST = "upstream_lost"
    UPSTREAM_STALLED = "upstream_stalled"
    UPSTREAM_VANISHED = "upstream_vanished"
    UPSTREAM_UNAVAILABLE = "upstream_unavailable"
    RESOURCES_EXHAUSTED = "resources_exhausted"
    DRAINED = "drained"
    # Access control has refused its connect, publish or play.
    DENIED = "denied"
    ENDED_BY_OPERATOR = "ended_by_operator"
    # The session's process was killed or has failed, and all of its sessions with it.
    WORKER_LOST = "worker_lost"
    FAULT = "fault"
