"""The gateway in a few numbers, for its page: taken out of the aggregate metrics, which add up.

Nothing is counted here; a figure that the metrics do not have is not on the page either.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

from gateway.telemetry.families import Family

# Each figure, and the family that it is the sum of.
_SUMS: Final = {
    "sessions": "sessions",
    "sessions_limit": "sessions_limit",
    "opened": "sessions_opened",
    "ended": "sessions_ended",
    "refused": "opens_refused",
    "connections": "connections",
    "connections_limit": "connections_limit",
    "buffers_bytes": "buffers_bytes",
    "buffers_limit_bytes": "buffers_limit_bytes",
    "busy_share": "event_loop_busy_ratio",
    "memory_bytes": "process_memory_bytes",
    "streamed_answers": "streamed_answers",
    "started_at": "process_start_time_seconds",
}
# Figures that are told apart by one label.
_PARTS: Final = {
    "bytes": ("bytes", "direction"),
    "by_protocol": ("sessions", "protocol"),
    "by_reason": ("sessions_ended", "reason"),
    "by_cause": ("opens_refused", "cause"),
}


def totals(families: Iterable[Family]) -> dict[str, Any]:
    """The figures by name."""
    by_name = {family.name: family for family in families}
    found: dict[str, Any] = {
        name: sum(by_name[family].samples.values()) if family in by_name else 0
        for name, family in _SUMS.items()
    }
    for name, (family, label) in _PARTS.items():
        found[name] = _by_label(by_name.get(family), label)
    found["version"] = next(iter(_by_label(by_name.get("build_info"), "version")), "")
    return found


def _by_label(family: Family | None, label: str) -> dict[str, float]:
    found: dict[str, float] = defaultdict(float)
    for (_, labels), value in family.samples.items() if family is not None else ():
        found[dict(labels).get(label, "")] += value
    return dict(found)
