"""Merges the metrics of several workers into one exposition."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client.core import Metric
from prometheus_client.samples import Sample

PREFIX: Final = "rtmpt_gateway_"

_Merge = Callable[[float, float], float]
# All other samples are added.
_MERGES: Final[dict[str, _Merge]] = {
    PREFIX + "upstream_up": min,
    PREFIX + "peer_up": min,
    PREFIX + "upstream_silent_seconds": max,
    PREFIX + "tls_certificate_expiry_timestamp_seconds": min,
    PREFIX + "event_loop_busy_ratio": max,
    PREFIX + "process_start_time_seconds": min,
    # Limits are those of all workers together.
    PREFIX + "sessions_limit": max,
    PREFIX + "connections_limit": max,
    PREFIX + "buffers_limit_bytes": max,
    PREFIX + "build_info": max,
    "python_info": max,
}


def _sum(one: float, other: float) -> float:
    return one + other


def merged(collections: Iterable[Iterable[Metric]]) -> list[Metric]:
    """The families of several workers as those of one."""
    families: dict[str, tuple[Metric, dict[tuple[object, ...], Sample]]] = {}
    for collection in collections:
        for family in collection:
            if family.name not in families:
                families[family.name] = family, {}
            samples = families[family.name][1]
            merge = _MERGES.get(family.name, _sum)
            for sample in family.samples:
                key = (sample.name, *sorted(sample.labels.items()))
                known = samples.get(key)
                value = sample.value if known is None else merge(known.value, sample.value)
                samples[key] = Sample(sample.name, sample.labels, value)
    return [with_samples(family, list(samples.values())) for family, samples in families.values()]


def with_samples(family: Metric, samples: list[Sample]) -> Metric:
    """A copy of the family with these samples."""
    copy = Metric(family.name, family.documentation, family.type, family.unit)
    copy.samples = samples
    return copy
