"""The way that was used last in each network, to be tried first there.

A network's key and a way's name are opaque. The entries are bounded: those that were used least recently
are forgotten first. As JSON, they are stored between runs; whatever is malformed there is left out, because
the loss of an entry only costs a race.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, final

from attrs import frozen

# A laptop's networks of some years.
MOST_NETWORKS: Final = 64
_KEY: Final = re.compile(r"[0-9a-f]{1,64}")
_WAY: Final = re.compile(r"[!-~][ -~]{0,63}")
# The longest time that a race can have taken.
_MOST_S: Final = 600.0


@frozen
class Remembered:
    """A way by its name, and how long it took until the server's handshake had arrived."""

    way: str
    took_s: float


@final
class WayMemory:
    """The ways by network, the most recently used ones last."""

    __slots__ = ("_networks",)

    def __init__(self) -> None:
        self._networks: dict[str, Remembered] = {}

    def recall(self, network: str) -> Remembered | None:
        """The way that was used last in a network."""
        return self._networks.get(network)

    def remember(self, network: str, way: str, took_s: float) -> None:
        """A way was used."""
        self._networks.pop(network, None)
        self._networks[network] = Remembered(way, took_s)
        while len(self._networks) > MOST_NETWORKS:
            del self._networks[next(iter(self._networks))]

    def forget(self, network: str, way: str) -> bool:
        """A way has failed. Returns whether it was remembered."""
        found = self._networks.get(network)
        if found is None or found.way != way:
            return False
        del self._networks[network]
        return True

    def to_json(self) -> str:
        """The entries as a JSON document."""
        networks = [
            {"network": network, "way": each.way, "took_ms": round(each.took_s * 1000)}
            for network, each in self._networks.items()
        ]
        return json.dumps({"networks": networks}, indent=1) + "\n"

    def read_json(self, text: str) -> bool:
        """Add the entries of a document. Those that are malformed are left out. Returns whether it is such
        a document.
        """
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            return False
        networks = document.get("networks") if isinstance(document, dict) else None
        if not isinstance(networks, list):
            return False
        for entry in networks:
            if isinstance(entry, dict) and _is_valid(entry):
                self.remember(entry["network"], entry["way"], entry["took_ms"] / 1000)
        return True


def _is_valid(entry: dict[str, Any]) -> bool:
    network, way, took_ms = (entry.get(name) for name in ("network", "way", "took_ms"))
    return (
        isinstance(network, str)
        and _KEY.fullmatch(network) is not None
        and isinstance(way, str)
        and _WAY.fullmatch(way) is not None
        and type(took_ms) is int
        and 0 <= took_ms <= _MOST_S * 1000
    )
