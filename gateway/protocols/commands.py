"""The tunnel's commands, as request targets: what a POST asks of the gateway.

A target that is no command is somebody else's (the web site's, or nobody's); this module only tells the
two apart. The forms are PROTOCOL.md's "The exchange"; a proxy may send the absolute form.
"""

from __future__ import annotations

from enum import Enum


class Kind(Enum):
    """What a command asks for."""

    IDENT = "ident"
    OPEN = "open"
    SEND = "send"
    IDLE = "idle"
    CLOSE = "close"


# kind, session id, sequence number; the number is None for a close without one, and of no meaning for
# ident and open. A tuple, since one is made for every request.
Command = tuple[Kind, bytes, int | None]

# Ten digits count four years of commands at 60 a second; more would only make int() slow.
NUMBER_DIGITS = 10

_FIXED: dict[bytes, Command] = {
    b"/fcs/ident2": (Kind.IDENT, b"", None),
    b"/open/1": (Kind.OPEN, b"", None),
}
_OF_A_SESSION = {b"send": Kind.SEND, b"idle": Kind.IDLE, b"close": Kind.CLOSE}


def command_of(method: bytes, target: bytes) -> Command | None:
    """The command that ``target`` names, or None when the request is no tunnel command."""
    if method != b"POST":
        return None
    if target[:1] != b"/":
        target = _path_of_absolute_form(target)
    parts = target.split(b"/")
    if len(parts) == 4:
        _, word, session_id, digits = parts
        kind = _OF_A_SESSION.get(word)
        if kind is None or not digits.isdigit() or len(digits) > NUMBER_DIGITS:
            return None
        return kind, session_id, int(digits)
    if len(parts) == 3 and parts[1] == b"close":
        return Kind.CLOSE, parts[2], None
    return _FIXED.get(target)


def _path_of_absolute_form(target: bytes) -> bytes:
    scheme, separator, rest = target.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https"):
        return b""
    _, slash, path = rest.partition(b"/")
    return slash + path
