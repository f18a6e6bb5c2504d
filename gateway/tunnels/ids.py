"""Session ids: unguessable, with the node and the worker that own the session.

    two characters   the node, base 36
    two characters   the worker, base 36
    22 characters    128 bits from the operating system, base64url
    "-test"          in ids of the port test's sessions only, which its own requests alone may reach

The prefix is there so that a command that reaches another worker or node can be passed on. An id is a
credential; what logs, metrics and pages show is the alias, which counts a worker's sessions.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import final

_RANDOM_BYTES = 16
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
NODE_BYTES = 2
PREFIX_BYTES = 4
PORT_TEST = b"-test"
# Without ``PORT_TEST``.
_ID_BYTES = PREFIX_BYTES + 22
MOST_ID_BYTES = _ID_BYTES + len(PORT_TEST)


def base36(number: int, width: int) -> str:
    """``number`` in lower-case base 36, padded with zeros to at least ``width`` digits."""
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return digits.rjust(width, "0")


def is_of_port_test(session_id: bytes) -> bool:
    """Whether it is the id of a session of the port test."""
    return session_id[_ID_BYTES:] == PORT_TEST


@final
class SessionIds:
    """Generates the session ids of one worker. ``random_bytes``: os.urandom, or its substitute in tests.
    ``ending``: empty, or ``PORT_TEST``.
    """

    def __init__(
        self, node: str, worker: int, random_bytes: Callable[[int], bytes], ending: bytes = b""
    ) -> None:
        self._prefix = node + base36(worker, 2)
        self._random_bytes = random_bytes
        self._ending = ending
        self._made = 0
        if len(self._prefix) != PREFIX_BYTES:
            raise ValueError(f"node and worker do not fit into {PREFIX_BYTES} characters")

    def next(self) -> tuple[bytes, str]:
        """A new session id and its alias."""
        secret = urlsafe_b64encode(self._random_bytes(_RANDOM_BYTES)).rstrip(b"=")
        return self._prefix.encode() + secret + self._ending, self.next_alias()

    def next_alias(self) -> str:
        """An alias for a relayed connection, which has no session id."""
        self._made += 1
        return f"{self._prefix}-{base36(self._made, 1)}"
