"""Extensions of RTMPT, which a client and a gateway agree on by a header field.

    open request   ``RTMPT-Options: resume``
    its answer     ``RTMPT-Options: resume=32, hold=250, direct``

``resume``: the client repeats a command by its number if a connection is lost before its answer is
complete, and skips what it has received of the answer. It takes answers of several commands from several
connections, and puts them in order. The gateway holds the answer to a send like that to an idle, until data
or another command arrives. It keeps the answers to as many commands as the number says: no more may be
unanswered.

The answers that the client may not have yet fit into half of ``limits.down_buffer_bytes``: each has at
most half of what the others leave. The one byte of an idle says which answers have arrived
(``idle_body``), so a client that receives much sends idles before the last answer is complete. An answer
whose length is not known at its beginning has the interval byte ``STREAMED``, so that the client can
notice that something between keeps it until its end. The client then asks for answers whose length is
known.

An idle can have four more bytes, two unsigned numbers of 16 bits in milliseconds, ``0xFFFF`` if it is not
known: what the client has measured (``ClientFigures``).

``hold``: the longest time that an answer is held, in milliseconds. A connection without any byte for longer
is suspected to be dead.

``direct``: the open request shows no sign of a proxy, so commands can be pipelined behind a held one.

Other servers ignore the field of the request, and other clients do not send it.
"""

from __future__ import annotations

import re
from struct import Struct
from typing import Final

from attrs import frozen

from gateway.protocols.fields import Items, tokens
from gateway.protocols.limits import Limits

FIELD: Final = b"rtmpt-options"
REQUEST: Final = b"RTMPT-Options: resume\r\n"
_RESUME: Final = b"resume"
_HOLD: Final = b"hold"
_DIRECT: Final = b"direct"
_NUMBER: Final = re.compile(rb"(resume|hold)=([0-9]{1,6})")
# The interval byte of a streamed answer. Others are odd (PROTOCOL.md, Interval byte).
STREAMED: Final = b"\x02"
# A publisher of 4 Mbit/s writes 200 records a second. As many commands carry those of 0.6 s, the time in
# which a segment that was lost twice is repaired. Less important than the bytes in flight, which the
# client limits.
_MOST_COMMANDS: Final = 128
# Behind a proxy, as many connections of a client have one command each. Browsers open six to a server.
MOST_LANES: Final = 8
# The bit of an idle's body that asks for answers whose length is known, from now on.
_WHOLE: Final = 0x80
# The least that is kept of an answer, whatever the others take: one that carries nothing delays its data.
LEAST_ANSWER_BYTES: Final = 256
_FIGURES: Final = Struct(">HH")
_NOT_KNOWN: Final = 0xFFFF
MOST_IDLE_BYTES: Final = 1 + _FIGURES.size


@frozen
class Options:
    """What was agreed on. ``commands``: how many may be unanswered; 0 if nothing was."""

    commands: int = 0
    direct: bool = False
    hold_s: float = 0.0


@frozen
class ClientFigures:
    """What a client has measured. ``round_trip_s``: on its connection, by the kernel. ``answer_s``: the
    longest time from a read of its program's data until the send with it was answered. None: not known.
    """

    round_trip_s: float | None = None
    answer_s: float | None = None


@frozen
class Idle:
    """What the body of an idle says. ``open``: how many of the commands directly before it may not have
    been answered completely; None if it says nothing. ``whole``: the client wants no streamed answers.
    ``figures``: None if it has none.
    """

    open: int | None = None
    whole: bool = False
    figures: ClientFigures | None = None


def asks_to_resume(items: Items) -> bool:
    """Whether the client of an open request resumes."""
    return _RESUME in tokens(items, FIELD)


def most_commands(limits: Limits) -> int:
    """How many commands a gateway with these limits agrees to; 0 if it keeps too little."""
    if min(limits.window_commands, limits.pipelined_requests) < MOST_LANES:
        return 0
    return min(_MOST_COMMANDS, limits.down_buffer_bytes // (8 * LEAST_ANSWER_BYTES))


def next_answer_bytes(most_bytes: int, commands: int, kept_bytes: int) -> int:
    """The most of an answer, if ``kept_bytes`` of the others may have to be repeated too, and all together
    may have ``most_bytes``.
    """
    left_bytes = most_bytes - commands * LEAST_ANSWER_BYTES - kept_bytes
    return max(LEAST_ANSWER_BYTES, left_bytes // 2)


def idle_body(open_: int, whole: bool, figures: ClientFigures | None = None) -> bytes:
    """The body of an idle that is sent while ``open_`` commands before it are not answered completely."""
    count = open_ + 1 if open_ + 1 < _WHOLE else 0
    said = bytes((count | (_WHOLE if whole else 0),))
    if figures is None:
        return said
    return said + _FIGURES.pack(*map(_milliseconds, (figures.round_trip_s, figures.answer_s)))


def read_idle(body: bytes) -> Idle:
    """The meaning of an idle's body."""
    said = body[0] if body else 0
    count = said & ~_WHOLE
    figures = None
    if len(body) == MOST_IDLE_BYTES:
        figures = ClientFigures(*map(_seconds, _FIGURES.unpack_from(body, 1)))
    return Idle(count - 1 if count else None, bool(said & _WHOLE), figures)


def _milliseconds(seconds: float | None) -> int:
    return _NOT_KNOWN if seconds is None else min(round(seconds * 1000), _NOT_KNOWN - 1)


def _seconds(milliseconds: int) -> float | None:
    return None if milliseconds == _NOT_KNOWN else milliseconds / 1000


def answer_field(limits: Limits, hold_s: float, direct: bool) -> bytes:
    """The field of the answer to an open request that asks to resume; empty if the gateway cannot agree."""
    commands = most_commands(limits)
    if not commands:
        return b""
    words = commands, hold_s * 1000, b", direct" if direct else b""
    return b"RTMPT-Options: resume=%d, hold=%d%b\r\n" % words


def agreed(items: Items) -> Options:
    """What the answer to an open request agrees to."""
    listed = tokens(items, FIELD)
    numbers = {match[1]: int(match[2]) for match in map(_NUMBER.fullmatch, listed) if match}
    commands = min(numbers.get(_RESUME, 0), _MOST_COMMANDS)
    if not commands:
        return Options()
    return Options(commands, _DIRECT in listed, numbers.get(_HOLD, 0) / 1000)
