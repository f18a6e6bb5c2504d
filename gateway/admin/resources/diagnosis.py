"""Diagnosis of a session's delay: its cause, in words for operators.

Pure: takes a summary and the event loop's busy share, and returns a diagnosis. Times are of the last
minute, and 95th percentiles unless stated otherwise, because viewers notice the bad ones.

The causes by observation:

    observation                                            cause
    event loop busy for 85 % of its time                   gateway
    no byte from the media server since the handshake      server: it does not answer
    play: no media from the media server for 15 s          paused: the server, its publisher, the player
    publish: no media from the client for 15 s             paused: the publisher
    publish: the same, while an answer is withheld         paused: the media server accepts no data
    downstream wait, up to a minute after such a pause     server: delayed media comes at once
    downstream wait, poll gap as long, Via seen            proxy
    downstream wait, poll gap as long                      polling: the client, or a hidden program between
    downstream wait, poll gap shorter, but over 0.1 s      polling: polls too rarely for the rate
      and four round trips
    downstream wait, no poll gap, or a relay               network: the client does not read fast enough
    upstream delay, commands out of order                  network, or proxy if one is known
    upstream delay                                         server
    ping of the client beyond the round trip (relay)       proxy: a hidden one
    ping of the upstream, lateness of a player's media     server
    lateness of a publisher's media                        network: the publisher's network or machine
    round trip                                             network

Limits: a program between client and gateway without a Via header cannot be distinguished from the client,
nor a stopped media server from a stopped publisher. A delay that affects fewer than half of the values is
called sudden.

The meaning of each figure:

- The *round trip* is the kernel's, of the last connection: to the client, or to the proxy in front of it.
  Each byte takes half of it.
- The *downstream wait* is from the arrival of upstream data to the answer that carries it. A tunnel waits
  only for the client's next command, so the cause is that of the *poll gap*. One round trip of the gap is
  the network's. The rest is the proxy's if one is known, else the client's or a hidden program's. A wait
  without a gap shows a client that polls but does not read: its network is too slow. For publishers, the
  wait has no meaning, because only acknowledgements are sent down.
- The *upstream delay* is caused by the client's network or proxy if commands arrive out of order, else by
  the media server, which accepts data late.
- *RTMP pings*: the upstream's response measures the media server. The client's response, on a relayed
  connection, measures the whole path; the part above the round trip is a hidden proxy's.
- *Media lateness*: for a player, the media server sends late; for a publisher, its network or machine does.
  Encoders send in batches, and audio and video separately, so small values have no meaning.
- A gateway that is busy nearly all of the time delays everything, so this is checked first.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

from attrs import field, frozen

from gateway.telemetry.exposition.labels import TUNNELLED
from gateway.telemetry.measurement.latency import NOTHING, Estimate
from gateway.telemetry.measurement.silence import SILENT_S
from gateway.telemetry.summary import Summary

# Shorter delays are not noticeable in live video, where buffers hold a second and more. A lower threshold
# would blame the network of every viewer on another continent.
NOTICEABLE_S: Final = 0.1
# Above this share, queues in the event loop grow.
BUSY_SHARE: Final = 0.85
# The share of commands. Occasional packet loss puts a few out of order.
_MANY_REORDERS: Final = 0.01
# Slower connects are mentioned. They delay only the start.
_SLOW_CONNECT_S: Final = 0.5
# FFmpeg sends ten packets at once: 0.2 s, at 25 video and 43 audio packets a second (measured).
_BATCHED_S: Final = 0.5
# A poll gap below this share of the wait does not explain the wait.
_EXPLAINS: Final = 0.5
# A gap of more round trips is not caused by the network.
_TRIPS: Final = 4
# The least time without media that counts as a pause: more than a sample of the history.
PAUSED_S: Final = 15.0
# Estimates cover 30 to 60 seconds, and the end of a pause is noticed up to ten seconds late.
_RESUMED_S: Final = 75.0


class Cause(Enum):
    """The causes of delay, as a closed list for pages and JSON."""

    NONE = "none"
    UNKNOWN = "unknown"
    NETWORK = "network"
    PROXY = "proxy"
    POLLING = "polling"
    GATEWAY = "gateway"
    SERVER = "server"
    PAUSED = "paused"


@frozen
class Diagnosis:
    """``parts``: seconds by cause. ``delay_s``: their sum. ``notes``: sentences, the verdict first."""

    cause: Cause
    delay_s: float
    parts: dict[Cause, float] = field(factory=dict)
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The values in types of JSON."""
        return {
            "cause": self.cause.value,
            "delay_s": self.delay_s,
            "parts": {cause.value: seconds for cause, seconds in self.parts.items()},
            "notes": list(self.notes),
        }


def diagnose(summary: Summary, busy_share: float = 0.0) -> Diagnosis:
    """Diagnose a session."""
    parts = _parts(summary)
    cause = _cause(summary, parts, busy_share)
    verdict = _verdict(summary, cause).format(**_words(summary, parts, cause))
    notes = (verdict, *_notes(summary))
    return Diagnosis(cause, sum(parts.values()), parts, notes)


def delay_of(summary: Summary) -> float:
    """The total delay of a session, in seconds."""
    return sum(_parts(summary).values())


def _cause(summary: Summary, parts: dict[Cause, float], busy_share: float) -> Cause:
    if busy_share >= BUSY_SHARE:
        return Cause.GATEWAY
    if summary.unanswered_s >= SILENT_S:
        return Cause.SERVER
    if not summary.latencies and summary.tcp is None:
        return Cause.UNKNOWN
    if pause_of(summary) >= PAUSED_S:
        return Cause.PAUSED
    worst = max(parts, key=parts.__getitem__)
    return worst if parts[worst] >= NOTICEABLE_S else Cause.NONE


def pause_of(summary: Summary) -> float:
    """How long the session's stream has carried no media, in seconds."""
    if summary.reason:
        return 0.0
    quiet_s = {"play": summary.quiet_down_s, "publish": summary.quiet_up_s}.get(summary.action)
    return quiet_s or 0.0


def _parts(summary: Summary) -> dict[Cause, float]:
    parts = dict.fromkeys((Cause.NETWORK, Cause.PROXY, Cause.POLLING, Cause.SERVER), 0.0)
    round_trip_s = summary.tcp.round_trip_s if summary.tcp is not None else 0.0
    parts[Cause.NETWORK] += round_trip_s / 2
    if summary.unanswered_s >= SILENT_S:
        parts[Cause.SERVER] += summary.unanswered_s
    for share in (_downstream, _upstream, _pings, _media):
        for cause, seconds in share(summary, round_trip_s):
            parts[cause] += seconds
    return parts


Shares = list[tuple[Cause, float]]


def _downstream(summary: Summary, round_trip_s: float) -> Shares:
    if summary.action == "publish":
        return []
    wait_s, gap_s = _latency(summary, "downstream_wait").p95_s, _latency(summary, "poll_gap").p95_s
    if _has_resumed(summary):
        return [(Cause.SERVER, wait_s)]
    is_gap_long = gap_s >= NOTICEABLE_S and gap_s >= _TRIPS * round_trip_s
    if summary.protocol not in TUNNELLED or not (gap_s >= wait_s * _EXPLAINS or is_gap_long):
        return [(Cause.NETWORK, wait_s)]
    network_s = wait_s * min(1.0, round_trip_s / gap_s) if gap_s else 0.0
    return [(Cause.NETWORK, network_s), (_hop(summary, Cause.POLLING), wait_s - network_s)]


def _upstream(summary: Summary, _: float) -> Shares:
    delay_s = _latency(summary, "upstream_delay").p95_s
    return [(_hop(summary, Cause.NETWORK) if _is_reordered(summary) else Cause.SERVER, delay_s)]


def _pings(summary: Summary, round_trip_s: float) -> Shares:
    shares = [(Cause.SERVER, _latency(summary, "ping_upstream").p50_s / 2)]
    if summary.protocol not in TUNNELLED:
        beyond_s = _latency(summary, "ping_client").p50_s - round_trip_s
        shares.append((Cause.PROXY, max(0.0, beyond_s) / 2))
    return shares


def _media(summary: Summary, _: float) -> Shares:
    whom = Cause.NETWORK if summary.action == "publish" else Cause.SERVER
    return [(whom, _media_late(summary))]


def _media_late(summary: Summary) -> float:
    late_s = _latency(summary, "media_late").p95_s
    return late_s if late_s >= _BATCHED_S else 0.0


def _has_resumed(summary: Summary) -> bool:
    return summary.resumed_s is not None and summary.resumed_s < _RESUMED_S


def _hop(summary: Summary, otherwise: Cause) -> Cause:
    """The cause of a delay between client and gateway: the proxy if one is known."""
    return Cause.PROXY if summary.proxies else otherwise


def _is_reordered(summary: Summary) -> bool:
    return summary.reorders > _MANY_REORDERS * max(1, summary.sends + summary.idles)


def _latency(summary: Summary, name: str) -> Estimate:
    return summary.latencies.get(name, NOTHING)


_VERDICTS: Final = {
    Cause.NONE: "Nothing delays this session noticeably: {delay} in all.",
    Cause.UNKNOWN: "Nothing has been measured of this session yet.",
    Cause.NETWORK: "The client's network: {part} of {delay}.",
    Cause.PROXY: "A proxy between the client and the gateway{via}: {part} of {delay}.",
    Cause.POLLING: "The client, or a program between that does not name itself: it lets {gap} pass between "
    "an answer and its next command, and the media server's bytes wait for that; {part} of {delay}.",
    Cause.GATEWAY: "The gateway: its processor is busy nearly all of the time, so that every session "
    "is late.",
    Cause.SERVER: "The media server {upstream}: {part} of {delay}.",
}


_TOO_SELDOM: Final = (
    "The client, or a program between that does not name itself, asks too seldom for the stream's rate: "
    "every {gap}, and one answer does not hold all that has come; {part} of {delay}."
)
_PAUSES: Final = {
    "play": "The stream has paused: the media server {upstream} has sent no media for {pause}. "
    "Its publisher or the server has stopped, or the player has paused it.",
    "publish": "The stream has paused: the publisher has sent no media for {pause}.",
}
_STUCK: Final = (
    "The stream has paused: the media server {upstream} accepts no data, so that the publisher has sent no "
    "media for {pause}."
)
_UNANSWERED: Final = (
    "The media server {upstream} has accepted the connection, but "
    "has not answered its handshake for {unanswered}."
)
# Why answers are not streamed (protocols/stream_policy.py, Delivery).
_WHOLE: Final = {
    "not_playing": "no play is under way yet",
    "client": "its client is not known to use an unfinished answer",
    "proxy": "a proxy is on the way, which may hold an unfinished answer back",
    "connections": "its commands come over changing connections, or ones that other sessions share",
    "buffered": "its client has noticed that something on the way keeps answers until their end",
    "off": "the configuration disables them",
}


def _verdict(summary: Summary, cause: Cause) -> str:
    if cause is Cause.PAUSED:
        is_stuck = summary.action == "publish" and summary.state == "keeping"
        return _STUCK if is_stuck else _PAUSES[summary.action]
    if cause is Cause.SERVER and summary.unanswered_s >= SILENT_S:
        return _UNANSWERED
    wait_s, gap_s = _latency(summary, "downstream_wait").p95_s, _latency(summary, "poll_gap").p95_s
    if cause is Cause.POLLING and gap_s < wait_s * _EXPLAINS:
        return _TOO_SELDOM
    return _VERDICTS[cause]


def _words(summary: Summary, parts: dict[Cause, float], cause: Cause) -> dict[str, str]:
    return {
        "part": time_in_words(parts.get(cause, 0.0)),
        "delay": time_in_words(sum(parts.values())),
        "gap": time_in_words(_latency(summary, "poll_gap").p95_s),
        "via": f" ({', '.join(summary.proxies)})" if summary.proxies else "",
        "upstream": summary.upstream,
        "pause": time_in_words(pause_of(summary)),
        "unanswered": time_in_words(summary.unanswered_s),
    }


def _notes(summary: Summary) -> list[str]:
    """Notes beside the verdict."""
    found = []
    if _has_resumed(summary) and summary.resumed_s is not None:
        found.append(
            f"The stream resumed {time_in_words(summary.resumed_s)} ago after a pause of "
            f"{time_in_words(summary.pause_s)}: media that had waited came at once."
        )
    wait = _latency(summary, "downstream_wait")
    if summary.action != "publish" and wait.p50_s < NOTICEABLE_S <= wait.p95_s:
        found.append(
            "The wait is sudden, not steady: half of the answers wait for less than "
            f"{time_in_words(wait.p50_s)}."
        )
    if summary.action == "play" and summary.protocol in TUNNELLED:
        found.extend(_delivery(summary))
    if summary.tcp is not None and summary.tcp.retransmits:
        found.append(
            f"{summary.tcp.retransmits} segments were retransmitted on the client's connection: "
            "its network loses packets."
        )
    if _is_reordered(summary):
        found.append(
            f"{summary.reorders} commands came out of order: they travel over several "
            "connections, as proxies use them."
        )
    if summary.upstream_connect_s >= _SLOW_CONNECT_S:
        found.append(
            f"The media server took {time_in_words(summary.upstream_connect_s)} to accept the connection, "
            "which delayed only the start."
        )
    if _media_late(summary):
        whose = (
            "publisher's" if summary.action == "publish" else "media server's, or its publisher's,"
        )
        found.append(
            f"Media comes {time_in_words(_media_late(summary))} late by its own timestamps: the {whose} "
            "network or machine is too slow for what it sends."
        )
    return found


def _delivery(summary: Summary) -> list[str]:
    if summary.streaming == "streamed":
        return ["Its answers are streamed: bytes leave as they come, without waiting for a poll."]
    if summary.streaming in _WHOLE:
        return [f"Its answers are not streamed: {_WHOLE[summary.streaming]}."]
    return []


def time_in_words(seconds: float) -> str:
    """A time as ``0 ms``, ``85 ms``, ``1.4 s`` or ``4 min``."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
