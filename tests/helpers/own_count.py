"""The count of a worker without others, in place of shared memory."""

from __future__ import annotations

from collections import Counter
from typing import final


@final
class OwnCount:
    """The sessions or connections of one worker."""

    def __init__(self) -> None:
        self.total = 0
        self._per_address: Counter[str] = Counter()

    def of_address(self, address: str) -> int:
        return self._per_address[address]

    def add(self, address: str, number: int) -> None:
        self.total += number
        self._per_address[address] += number
        if not self._per_address[address]:
            del self._per_address[address]
