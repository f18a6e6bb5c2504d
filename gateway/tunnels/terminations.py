"""Terminations of RTMPE for new sessions, by the server that a session has got."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from gateway.protocols.rtmp.termination import RANDOM_BYTES, RTMPETermination

# The name of the server of a session that gets it by its connect command (``introduction``).
NOT_KNOWN_YET: Final = ""

# Creates the termination of a session, whose server has that name; None if its RTMPE passes unchanged.
Terminate = Callable[[str], RTMPETermination | None]


def unterminated(server: str) -> None:
    """No RTMPE is terminated."""


@final
class Terminations:
    """``servers``: the names of those that get plain RTMP, or RTMPE of the gateway's; they may change.
    ``clock`` returns seconds; ``random`` returns a number of random bytes.
    """

    def __init__(
        self,
        servers: set[str],
        clock: Callable[[], float],
        random: Callable[[int], bytes],
    ) -> None:
        self.servers = servers
        self._clock = clock
        self._random = random

    def create(self, server: str) -> RTMPETermination | None:
        """As ``Terminate``."""
        if server not in self.servers:
            return None
        return RTMPETermination(int(self._clock() * 1000), self._random(RANDOM_BYTES))
