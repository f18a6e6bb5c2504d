"""The text of metrics, written by prometheus-client, one family or part of a family at a time.

prometheus-client writes all of a registry in one call. With thousands of sessions, that would block the
reactor for a second, so the text is produced in pieces between which other events are processed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from attrs import frozen
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

# A family begins with the lines HELP and TYPE.
_HEAD_LINES: Final = 2


@frozen
class _Families(Collector):
    """A collector of the given families."""

    families: tuple[Metric, ...] = ()

    def collect(self) -> Iterable[Metric]:
        return self.families


def content_type(accept: str) -> str:
    """The Content-Type of ``exposition`` for this ``Accept``: Prometheus text, or OpenMetrics."""
    return choose_encoder(accept)[1]


def cheaper(accept: str) -> str:
    """``accept`` for large expositions: Prometheus text if it is acceptable. OpenMetrics takes twice as
    long to write, and has no other content.
    """
    return "text/plain" if "text/plain" in accept or "*/*" in accept else accept


def exposition(families: Iterable[Metric | None], accept: str = "") -> Iterator[bytes]:
    """The text of ``families`` in pieces. None gives an empty piece.

    Consecutive families of the same name are parts of one family. They should be small, because a part is
    written without interruption.
    """
    encode = choose_encoder(accept)[0]
    # "# EOF" in OpenMetrics.
    end = encode(_Families())
    last_name = ""
    for family in families:
        if family is None:
            yield b""
            continue
        text = encode(_Families((family,))).removesuffix(end)
        yield text.split(b"\n", _HEAD_LINES)[_HEAD_LINES] if family.name == last_name else text
        last_name = family.name
    yield end
