"""FFmpeg's way to repeat a command: the same body again, as a send of the next number.

FFmpeg never repeats a number. An exchange that failed before it had read the answer's whole head is tried
again on a new connection, under the next number, as a *send* of the same body; for an idle that is one byte
``00``, which would corrupt the stream upstream (captured with FFmpeg 5.1, cut at every stage). So from a
client that ``tries_again``, a send that comes on another connection than its last command is meant to be:

    number          body                      meaning
    the next        that of the last command  AGAIN: its answer was lost
    the next        any other                 ITSELF
    leaves one out  a lone ``00``             IDLE: one that was lost on its way, under the number left out
    leaves one out  that of the last command  AGAIN: its answer was lost, and the first try on its way too
    leaves one out  any other                 ITSELF: it was lost on its way, under the number left out

Only what is ITSELF goes upstream; the other two are taken for idles, and to AGAIN what the lost answer had
carried is said again. A send that leaves out more is early, like any other client's. A close that comes
early is FFmpeg giving up: it waits for a moment, not for the gap.

Another connection alone says little: a proxy may spread one client's requests over many and exchange them
as it likes, and two sends that say the same may both be meant, as a publisher's silence is. A lone ``00``
is no chunk of any client's stream. Any other body is AGAIN only when the last connection was ended from the
other side, and when it begins with a command: FFmpeg gives up when publishing fails, and a player sends no
media. (What RTMPTE encrypts cannot be told, and passes as ITSELF.)

Not known here: who such a client is, and what the session is doing meanwhile.
"""

from __future__ import annotations

from enum import Enum
from typing import final

# So much of a body is kept to know it again: a player's commands are shorter.
TRIED_AGAIN_BYTES = 1024
# Adobe's RTMP 1.0, 5.3.1 and 5.4: a chunk that begins with its message's type has it behind the basic
# header, which is of one byte here, and six bytes more; these types are control messages and commands.
_TYPE_AT = 7
_WITHOUT_TYPE = 0x80
_COMMANDS = frozenset((1, 2, 3, 4, 5, 6, 17, 20))
# For what is still in the old connection's socket to be read first; two sweeps.
CLOSE_GRACE_S = 0.1
_IDLE_BODY = b"\x00"


class Meaning(Enum):
    """What a send on a new connection is meant to be."""

    ITSELF = "itself"
    AGAIN = "again"
    IDLE = "idle"


@final
class Retries:
    """What is known of the last command of one such client.

    ``source`` is the connection it came on, ``source_lost`` whether that was ended, and not by us;
    ``last_body`` the first ``TRIED_AGAIN_BYTES`` of its body. All are the session's to set, which it does
    for each command, without a call.
    """

    __slots__ = ("last_body", "source", "source_lost")

    def __init__(self) -> None:
        self.source = -1
        self.source_lost = False
        self.last_body = b""

    def meaning(self, left_out: int, body: bytes) -> Meaning:
        """What a send on another connection is, which leaves out no number, or one."""
        if body == _IDLE_BODY and (left_out or self.last_body == _IDLE_BODY):
            return Meaning.IDLE if left_out else Meaning.AGAIN
        may_be_again = (
            self.source_lost
            and body == self.last_body
            and len(body) < TRIED_AGAIN_BYTES
            and _begins_with_command(body)
        )
        return Meaning.AGAIN if may_be_again else Meaning.ITSELF


def _begins_with_command(body: bytes) -> bool:
    return len(body) > _TYPE_AT and body[0] < _WITHOUT_TYPE and body[_TYPE_AT] in _COMMANDS
