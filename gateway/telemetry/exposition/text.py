"""The text of metrics, written by prometheus-client, one family or part of a family at a time.

prometheus-client writes all of a registry in one call. With thousands of sessions, that would block the
reactor for a second, so the text is produced in pieces between which other events are processed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, final

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


@final
class Writer:
    """Writes families in the format that ``accept`` (an Accept header) asks for: Prometheus text, or
    OpenMetrics.

    ``end``: the text after the last family.
    """

    def __init__(self, accept: str = "") -> None:
        self._encode, self.content_type = choose_encoder(accept)
        # "# EOF" in OpenMetrics.
        self.end = self._encode(_Families())

    def family(self, family: Metric) -> bytes:
        """Lines of help and type, and the samples."""
        return self._encode(_Families((family,))).removesuffix(self.end)

    def samples(self, family: Metric) -> bytes:
        """The samples alone, as the next part of a family whose head is written already."""
        return self.family(family).split(b"\n", _HEAD_LINES)[_HEAD_LINES]


def cheaper(accept: str) -> str:
    """``accept`` for large expositions: Prometheus text if it is acceptable. OpenMetrics takes twice as
    long to write, and has no other content.
    """
    return "text/plain" if "text/plain" in accept or "*/*" in accept else accept


def exposition(families: Iterable[Metric | None], accept: str = "") -> Iterator[bytes]:
    """The text of ``families``, each in a separate piece. None gives an empty piece."""
    writer = Writer(accept)
    for family in families:
        yield b"" if family is None else writer.family(family)
    yield writer.end
