"""Figures on their way to Prometheus: families of samples, which add up over workers, and their text.

Two forms, by what the scraper accepts: Prometheus text 0.0.4 and OpenMetrics 1.0. They differ in how a
counter's family is called, in the type of what never changes, and in the last line.

The text is made in pieces, a family each, so that whoever writes it out can let others run in between.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Final

from attrs import field, frozen

PREFIX: Final = "rtmpt_gateway_"
_TEXT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_OPEN_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
OPEN_METRICS_END: Final = b"# EOF\n"

# A sample's name is the family's and a suffix; its labels are name and value in turn, in order.
Labels = tuple[tuple[str, str], ...]
Key = tuple[str, Labels]


class Kind(Enum):
    """What a family's values are; the value is its type's name in both forms."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Merge(Enum):
    """How one value is made of those that two workers have for the same sample."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"


_MERGES: Final[dict[Merge, Callable[[float, float], float]]] = {
    Merge.SUM: operator.add,
    Merge.MAX: max,
    Merge.MIN: min,
}


@frozen
class Family:
    """Samples that belong together; ``name`` is without the prefix and, of a counter, without ``_total``.

    All of it is plain values, to be handed from one process to another.
    """

    name: str
    kind: Kind
    help: str
    samples: dict[Key, float] = field(factory=dict)
    merge: Merge = Merge.SUM

    def put(self, value: float, *labels: tuple[str, str], suffix: str = "") -> None:
        """Set the sample with these labels."""
        self.samples[suffix, labels] = value


def merged(collections: Iterable[Iterable[Family]]) -> list[Family]:
    """One collection of those of several workers."""
    found: dict[str, Family] = {}
    for collection in collections:
        for family in collection:
            into = found.get(family.name)
            if into is None:
                found[family.name] = Family(
                    family.name, family.kind, family.help, dict(family.samples), family.merge
                )
                continue
            for key, value in family.samples.items():
                known = into.samples.get(key)
                merge = _MERGES[family.merge]
                into.samples[key] = value if known is None else merge(known, value)
    return list(found.values())


def is_open_metrics(accept: str) -> bool:
    """Whether a request's ``Accept`` asks for OpenMetrics."""
    return "application/openmetrics-text" in accept.lower()


def content_type(accept: str) -> str:
    """The Content-Type of what ``exposition`` makes for this ``Accept``."""
    return _OPEN_TYPE if is_open_metrics(accept) else _TEXT_TYPE


def exposition(families: Iterable[Family | None], accept: str = "") -> Iterator[bytes]:
    """The families' text in pieces, the last line included; a piece is empty where one is None.

    After each piece others may run: none takes longer than a few milliseconds to make.
    """
    open_metrics = is_open_metrics(accept)
    for family in families:
        yield b"" if family is None else _text(family, open_metrics).encode()
    if open_metrics:
        yield OPEN_METRICS_END


def head(name: str, kind: Kind, help_text: str, open_metrics: bool) -> str:
    """The lines before a family's samples."""
    if kind is Kind.COUNTER and not open_metrics:
        name += "_total"
    return f"# HELP {PREFIX}{name} {help_text}\n# TYPE {PREFIX}{name} {kind.value}\n"


def label_text(labels: Labels) -> str:
    """Labels as both forms write them; what a client chose is escaped here."""
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{escaped(value)}"' for name, value in labels) + "}"


def escaped(value: str) -> str:
    """A label's value with nothing left in it that could end it, or the line."""
    if _HARMLESS.fullmatch(value):
        return value
    value = value.translate(_CONTROLS)
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


_HARMLESS: Final = re.compile(r"[ !#-\[\]-~]*")
# Control characters have no place in a label, and some scrapers and terminals take them badly.
_CONTROLS: Final = dict.fromkeys((*range(10), *range(11, 32), *range(127, 160), 8232, 8233), "?")


def _text(family: Family, open_metrics: bool) -> str:
    name = PREFIX + family.name + ("_total" if family.kind is Kind.COUNTER else "")
    lines = [
        f"{name}{suffix}{label_text(labels)} {value:.10g}\n"
        for (suffix, labels), value in family.samples.items()
    ]
    return head(family.name, family.kind, family.help, open_metrics) + "".join(lines)
