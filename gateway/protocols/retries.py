"""Recognition of FFmpeg's retries: the body of a failed command, sent again under the next number.

FFmpeg never repeats a sequence number. If an exchange fails before the response head is complete, it sends
the same body again on a new connection, under the next number, and always as a *send*. For an idle, the
body is one byte ``00``, which would corrupt the upstream byte stream (captured with FFmpeg 5.1, with the
connection cut at every stage). A send from a client that ``tries_again``, on another connection than that
of its last command, is therefore interpreted as follows:

    number        body                   meaning
    the next      of the last command    AGAIN: the last answer was lost
    the next      any other              ITSELF
    one skipped   one byte ``00``        IDLE: the skipped command, an idle, never arrived
    one skipped   of the last command    AGAIN: the last answer was lost, and the first retry never arrived
    one skipped   any other              ITSELF: the skipped command, this send, never arrived

ITSELF is sent upstream. AGAIN and IDLE are processed as idles, and the answer to AGAIN repeats the data of
the lost answer. A send that skips more numbers is out of order, as from any other client. An out-of-order
close means that FFmpeg has given up: it waits for ``CLOSE_GRACE_S`` only.

A new connection alone does not indicate a retry: a proxy may distribute a client's requests over many
connections, and two equal sends may be two messages, such as a publisher's silence. One byte ``00`` is
never a chunk of a client's stream. Any other body is AGAIN only if the peer closed the last connection and
the body begins with a command: FFmpeg gives up if publishing fails, and players send no media. (RTMPTE
bodies are encrypted, so they are always ITSELF.)

This module does not know which clients send retries, or the state of the session.
"""

from __future__ import annotations

from enum import Enum
from typing import final

# How much of a body is kept for comparison. A player's commands are shorter.
TRIED_AGAIN_BYTES = 1024
# RTMP 1.0, 5.3.1 and 5.4: in chunks of formats 0 and 1, the message type follows the basic header, of one
# byte here, and six further bytes. These types are control messages and commands.
_TYPE_AT = 7
_WITHOUT_TYPE = 0x80
_COMMANDS = frozenset((1, 2, 3, 4, 5, 6, 17, 20))
# Two sweeps, in which data still in the old connection's socket is read first.
CLOSE_GRACE_S = 0.1
_IDLE_BODY = b"\x00"


class Meaning(Enum):
    """The interpretation of a send on a new connection."""

    ITSELF = "itself"
    AGAIN = "again"
    IDLE = "idle"


@final
class Retries:
    """The last command of one client.

    ``source``: its connection. ``source_lost``: whether the peer has closed that. ``last_body``: the first
    ``TRIED_AGAIN_BYTES`` of its body. The session sets all three for each command, without a call.
    """

    __slots__ = ("last_body", "source", "source_lost")

    def __init__(self) -> None:
        self.source = -1
        self.source_lost = False
        self.last_body = b""

    def meaning(self, left_out: int, body: bytes) -> Meaning:
        """Interpret a send on another connection. ``left_out``: how many numbers it skips, 0 or 1."""
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
