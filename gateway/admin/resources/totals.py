"""The totals on the status page, calculated from the aggregate metrics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

from prometheus_client.core import Metric

from gateway.telemetry.exposition.merging import PREFIX

# Each figure, and the family whose samples are added.
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
    "memory_bytes": "process_resident_memory_bytes",
    "streamed_answers": "streamed_answers",
    "started_at": "process_start_time_seconds",
}
# Figures by the values of one label.
_PARTS: Final = {
    "bytes": ("bytes", "direction"),
    "by_protocol": ("sessions", "protocol"),
    "by_reason": ("sessions_ended", "reason"),
    "by_cause": ("opens_refused", "cause"),
}


def totals(families: Iterable[Metric]) -> dict[str, Any]:
    """The figures by name."""
    by_name = {family.name.removeprefix(PREFIX): family for family in families}
    found: dict[str, Any] = {
        name: sum(sample.value for sample in by_name[family].samples) if family in by_name else 0
        for name, family in _SUMS.items()
    }
    for name, (family, label) in _PARTS.items():
        found[name] = _by_label(by_name.get(family), label)
    found["version"] = next(iter(_by_label(by_name.get("build_info"), "version")), "")
    return found


def _by_label(family: Metric | None, label: str) -> dict[str, float]:
    found: dict[str, float] = defaultdict(float)
    for sample in family.samples if family is not None else ():
        found[sample.labels.get(label, "")] += sample.value
    return dict(found)
