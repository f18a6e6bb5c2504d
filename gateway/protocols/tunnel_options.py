"""The field by which a client and a gateway agree on more than RTMPT requires.

    open request   ``RTMPT-Options: resume``
    its answer     ``RTMPT-Options: resume=10, direct``

``resume``: the client repeats a command by its number if a connection is lost before its answer is
complete, and skips what it has received of the answer. It takes answers of several commands from several
connections, and puts them in order. The gateway holds the answer to a send like that to an idle, until data
or another command arrives. It keeps the answers to as many commands as the number says: no more may be
unanswered. They fit into ``limits.replay_bytes``: an answer is small, unless its command is an idle with
the body ``01``, which says that all earlier answers have arrived.

``direct``: the open request shows no sign of a proxy, so commands can be pipelined behind a held one.

Other servers ignore the field of the request, and other clients do not send it.
"""

from __future__ import annotations

import re
from typing import Final

from attrs import frozen

from gateway.protocols.fields import Items, tokens
from gateway.protocols.limits import Limits

FIELD: Final = b"rtmpt-options"
REQUEST: Final = b"RTMPT-Options: resume\r\n"
_RESUME: Final = b"resume"
_DIRECT: Final = b"direct"
_WINDOW: Final = re.compile(rb"resume=([0-9]{1,3})")
# The body of an idle that says that all earlier answers have arrived.
ALL_ARRIVED: Final = b"\x01"
# The most of an answer while earlier ones may have to be repeated.
SMALL_BYTES: Final = 4096
# As many commands in flight carry 10 Mbit/s over a round trip of 0.2 s, in sends of 8 kB.
_MOST_COMMANDS: Final = 32


@frozen
class Options:
    """What was agreed on. ``commands``: how many may be unanswered; 0 if nothing was."""

    commands: int = 0
    direct: bool = False


def asks_to_resume(items: Items) -> bool:
    """Whether the client of an open request resumes."""
    return _RESUME in tokens(items, FIELD)


def most_commands(limits: Limits) -> int:
    """How many commands a gateway with these limits agrees to; 0 if it keeps too little."""
    commands = min(
        *(limits.replay_answers, limits.window_commands, limits.pipelined_requests),
        _MOST_COMMANDS,
    )
    room_bytes = limits.replay_bytes - limits.answer_bytes
    return commands if commands > 1 and room_bytes >= commands * SMALL_BYTES else 0


def streamed_answer_bytes(limits: Limits) -> int:
    """The most of a streamed answer, for gateways that agree: the small ones behind it are kept too."""
    return limits.replay_bytes - most_commands(limits) * SMALL_BYTES


def answer_field(limits: Limits, direct: bool) -> bytes:
    """The field of the answer to an open request that asks to resume; empty if the gateway cannot agree."""
    commands = most_commands(limits)
    if not commands:
        return b""
    return b"RTMPT-Options: resume=%d%b\r\n" % (commands, b", direct" if direct else b"")


def agreed(items: Items) -> Options:
    """What the answer to an open request agrees to."""
    listed = tokens(items, FIELD)
    numbers = [int(match[1]) for match in map(_WINDOW.fullmatch, listed) if match]
    return Options(min(*numbers, _MOST_COMMANDS), _DIRECT in listed) if numbers else Options()
