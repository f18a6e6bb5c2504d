"""Every bound of the gateway, with its default: nothing that can grow grows past one of these.

Seconds, bytes and counts are in the names. Deadlines are absolute: they run from the start of the
phase they bound, so that a peer cannot stretch a phase by sending a byte a second.
"""

from __future__ import annotations

from enum import Enum

from attrs import field, frozen
from attrs.validators import ge, gt

# What tells a slow peer from one that is slow on purpose, where a body has no other end. Apache's
# mod_reqtimeout has the same; below it, a gigabyte takes a month, and above it, a bad line might fall.
LEAST_BYTES_A_S = 500


def is_slow(taken_bytes: float, seconds: float) -> bool:
    """Whether a peer that has acknowledged ``taken_bytes`` in ``seconds`` is too slow to be waited for."""
    return taken_bytes < LEAST_BYTES_A_S * seconds


class StreamedAnswers(Enum):
    """Who gets streamed answers: nobody, direct connections, or every program that can take them."""

    NEVER = "never"
    DIRECT = "direct"
    ALWAYS = "always"


def _seconds(default: float) -> float:
    return field(default=default, validator=gt(0.0))


def _count(default: int, least: int = 1) -> int:
    return field(default=default, validator=ge(least))


@frozen
class Limits:
    """The limits of one worker, as the table ``[limits]`` of the configuration names them."""

    # A connection
    first_bytes_s: float = _seconds(5.0)
    tls_handshake_s: float = _seconds(10.0)
    head_s: float = _seconds(10.0)
    body_s: float = _seconds(10.0)
    # Between requests; longer than FFmpeg's and Flash's longest pause between two commands (about
    # 2 s), and than the 60 s after which common proxies give up an idle connection themselves.
    keep_alive_s: float = _seconds(75.0)
    # A peer that takes none of what is written to it.
    stalled_write_s: float = _seconds(15.0)
    # A peer whose network takes no packets any more. Publishers return after 5 to 20 s (PROTOCOL.md), and
    # the media server refuses them for as long; below 5 s, a phone that changes cells would be cut.
    vanished_s: float = field(default=15.0, validator=ge(5.0))
    # The largest head seen is Flash Player 10.1 on Linux, whose head grows with each request.
    head_bytes: int = _count(32 * 1024, 1024)
    head_fields: int = _count(100, 8)
    # FFmpeg's largest send is about 27 kB; a client that sends once a second at 8 Mbit/s needs 1 MB.
    body_bytes: int = _count(1024 * 1024, 4096)
    # Requests of one connection that may wait for their answers at once.
    pipelined_requests: int = _count(32)

    # A session
    # One read of 64 KiB and the interval byte: a little less, and each full answer would cut a chunk.
    answer_bytes: int = _count(64 * 1024 + 1, 4096)
    down_buffer_bytes: int = _count(1024 * 1024, 8192)
    up_buffer_bytes: int = _count(1024 * 1024, 8192)
    # Commands that came before their turn; Flash opens at most a handful of connections at once.
    window_commands: int = _count(32)
    gap_s: float = _seconds(5.0)
    replay_answers: int = _count(10)
    replay_bytes: int = _count(256 * 1024, 4096)
    unused_session_s: float = _seconds(10.0)
    silent_session_s: float = _seconds(30.0)
    upstream_connect_s: float = _seconds(3.0)

    # The website
    # From the request's last byte to the answer's head; nginx's proxy_read_timeout is 60 s too.
    website_answer_s: float = _seconds(60.0)
    # A body or WebSocket on which nobody says anything. Event streams and WebSockets send something
    # every half a minute by custom; who does not is still let be for a while.
    website_quiet_s: float = _seconds(600.0)

    # The worker
    sessions: int = _count(10_000)
    sessions_per_address: int = _count(1_000)
    connections: int = _count(20_000)
    connections_per_address: int = _count(2_000)
    # All sessions' buffers together, as a share of the machine's memory.
    buffers_share: float = field(default=0.25, validator=gt(0.0))
    # For sessions to end by themselves when the gateway stops; 0 ends them at once.
    drain_s: float = field(default=30.0, validator=ge(0.0))
