"""Detection of a proxy between client and server that keeps streamed answers until their end.

A streamed answer of a server that resumes can be recognised (``tunnel_options``). It begins when there is
data, and goes on while there is more, or until the server has paused for as long as it holds answers. So
one that arrives all at once, long after its command, was kept on the way. A loss on the way can have the
same effect on one answer, but rarely on several in a row.
"""

from __future__ import annotations

from typing import Final, final

from gateway.protocols.tunnel_client.lane import Command
from gateway.protocols.tunnel_options import STREAMED

# Less than any streamed answer lasts whose command is the last one.
_KEPT_S: Final = 0.2
# More than the pieces of an answer that was kept need on a path that carries a stream, as a rule.
_AT_ONCE_S: Final = 0.03
# As many in a row. Each delays the stream by the duration of an answer.
_PROOFS: Final = 2


@final
class Buffering:
    """``is_noticed``: whether answers are kept. It stays noticed."""

    __slots__ = ("_least_s", "_proofs", "is_noticed")

    def __init__(self) -> None:
        # From a command to the first byte of its answer: about the round trip time.
        self._least_s = float("inf")
        self._proofs = 0
        self.is_noticed = False

    def answered(self, command: Command, now: float) -> None:
        """The answer to ``command`` is complete."""
        waited_s = command.begun_at - command.sent_at
        self._least_s = min(self._least_s, waited_s)
        if command.interval != STREAMED[0]:
            return
        if now - command.begun_at > _AT_ONCE_S:
            self._proofs = 0
        elif command.was_last and waited_s >= self._least_s + _KEPT_S:
            # A later command would have ended the answer.
            self._proofs += 1
            self.is_noticed = self.is_noticed or self._proofs >= _PROOFS
