"""Tunnel commands: parses the target of a POST request (PROTOCOL.md, The exchange).

Proxies may send the target in absolute form. A target that is not a tunnel command is forwarded to the
website, if there is one; this module only distinguishes the two.
"""

from __future__ import annotations

from enum import Enum


class Kind(Enum):
    """The kind of a command."""

    IDENT = "ident"
    OPEN = "open"
    SEND = "send"
    IDLE = "idle"
    CLOSE = "close"


# Kind, session id and sequence number. The number is None for a close without one, and for ident and open.
# A tuple, because one is created for every request.
Command = tuple[Kind, bytes, int | None]

# Ten digits suffice for four years of commands at 60 a second; longer numbers make int() slow.
NUMBER_DIGITS = 10

_FIXED: dict[bytes, Command] = {
    b"/fcs/ident2": (Kind.IDENT, b"", None),
    b"/open/1": (Kind.OPEN, b"", None),
}
_OF_A_SESSION = {b"send": Kind.SEND, b"idle": Kind.IDLE, b"close": Kind.CLOSE}


def command_of(method: bytes, target: bytes) -> Command | None:
    """The command of a request, or None if it is not a tunnel command."""
    if method != b"POST":
        return None
    if target[:1] != b"/":
        target = path_of(target)
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


def resource_path(target: bytes) -> bytes:
    """The path of a target without its query; empty if it has none."""
    return (target if target[:1] == b"/" else path_of(target)).partition(b"?")[0]


def path_of(target: bytes) -> bytes:
    """The path of a target in absolute form; empty if it has another form."""
    scheme, separator, rest = target.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https"):
        return b""
    _, slash, path = rest.partition(b"/")
    return slash + path
