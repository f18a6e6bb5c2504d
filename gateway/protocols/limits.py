"""All limits of the gateway and their defaults. Everything that can grow has a limit here.

Names contain the unit: seconds, bytes, or a count. Deadlines are absolute: they start with the phase that
they limit, so that a peer cannot extend a phase by sending a byte a second.
"""

from __future__ import annotations

from enum import Enum

from attrs import field, frozen
from attrs.validators import ge, gt

# The least rate of a peer, in bytes a second, where no other limit ends a transfer. That of Apache's
# mod_reqtimeout. A lower rate lets a gigabyte take a month; a higher one would cut bad connections.
LEAST_BYTES_A_S = 500


def is_slow(taken_bytes: float, seconds: float) -> bool:
    """Whether a peer that acknowledged ``taken_bytes`` in ``seconds`` is below the least rate."""
    return taken_bytes < LEAST_BYTES_A_S * seconds


class StreamedAnswers(Enum):
    """Which clients get streamed answers: none, those on direct connections, or all that can use them."""

    NEVER = "never"
    DIRECT = "direct"
    ALWAYS = "always"


def _seconds(default: float) -> float:
    return field(default=default, validator=gt(0.0))


def _count(default: int, least: int = 1) -> int:
    return field(default=default, validator=ge(least))


@frozen
class Limits:
    """The keys of ``[limits]`` in the configuration. Those of sessions, connections and buffers are for all
    workers together.
    """

    # A connection
    first_bytes_s: float = _seconds(5.0)
    tls_handshake_s: float = _seconds(10.0)
    head_s: float = _seconds(10.0)
    body_s: float = _seconds(10.0)
    # Between requests; longer than FFmpeg's and Flash's longest pause between two commands (about
    # 2 s), and than the 60 s after which common proxies give up an idle connection themselves.
    keep_alive_s: float = _seconds(75.0)
    # For a peer that acknowledges none of the data written to it.
    stalled_write_s: float = _seconds(15.0)
    # For a peer that has vanished. Publishers reconnect after 5 to 20 s (PROTOCOL.md), and the media server
    # refuses them until the old session ends. Below 5 s, a phone that changes cells would be disconnected.
    vanished_s: float = field(default=15.0, validator=ge(5.0))
    # The largest head seen is Flash Player 10.1 on Linux, whose head grows with each request.
    head_bytes: int = _count(32 * 1024, 1024)
    head_fields: int = _count(100, 8)
    # FFmpeg's largest send is about 27 kB; a client that sends once a second at 8 Mbit/s needs 1 MB.
    body_bytes: int = _count(1024 * 1024, 4096)
    # The number of pending responses of one connection.
    pipelined_requests: int = _count(32)

    # A session
    # One read of 64 KiB and the interval byte: a little less, and each full answer would cut a chunk.
    answer_bytes: int = _count(64 * 1024 + 1, 4096)
    down_buffer_bytes: int = _count(1024 * 1024, 8192)
    up_buffer_bytes: int = _count(1024 * 1024, 8192)
    # Out-of-order commands. Flash opens at most a few connections at the same time.
    window_commands: int = _count(32)
    gap_s: float = _seconds(5.0)
    replay_answers: int = _count(10)
    replay_bytes: int = _count(256 * 1024, 4096)
    unused_session_s: float = _seconds(10.0)
    silent_session_s: float = _seconds(30.0)
    upstream_connect_s: float = _seconds(3.0)
    # Then no further server is tried. RTMPT clients have given up by then.
    open_s: float = _seconds(10.0)

    # The website
    # From the end of the request to the head of the response; nginx's proxy_read_timeout is 60 s too.
    website_answer_s: float = _seconds(60.0)
    # For a response body or WebSocket without any data. Event streams and WebSockets customarily send some
    # every 30 s; the limit allows for those that do not.
    website_quiet_s: float = _seconds(600.0)

    # The gateway
    sessions: int = _count(10_000)
    sessions_per_address: int = _count(1_000)
    connections: int = _count(20_000)
    connections_per_address: int = _count(2_000)
    # All sessions' buffers together, as a share of the machine's memory.
    buffers_share: float = field(default=0.25, validator=gt(0.0))
    # How long sessions may continue when the gateway stops; 0 ends them immediately.
    drain_s: float = field(default=30.0, validator=ge(0.0))
    # The same in workers that a reload has replaced. A live event can last that long.
    reload_drain_s: float = field(default=43_200.0, validator=ge(0.0))
