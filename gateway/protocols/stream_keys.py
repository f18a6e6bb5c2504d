"""Signed keys in stream names: ``NAME?expires=SECONDS&token=HEX``.

``expires`` is in seconds since 1970. ``token`` is the HMAC-SHA256, as 64 hexadecimal digits, of

    ACTION/APPLICATION/NAME/SECONDS

with the secret as its key, where ACTION is publish or play. A key for one does not permit the other. With
several secrets, each of them is valid, so a secret can be replaced without refusing clients.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import Final, final
from urllib.parse import parse_qsl

from gateway.protocols.access import ALLOWED, AccessRequest, Action, Verdict

# Seconds since 1970 have 10 digits until 2286.
_SECONDS: Final = re.compile(r"[0-9]{1,12}")
_TOKEN: Final = re.compile(r"[0-9A-Fa-f]{64}")
# The client's other arguments.
_MOST_ARGUMENTS: Final = 32

_MISSING: Final = Verdict("a signed key is required")
_WRONG: Final = Verdict("the key is not valid")
_EXPIRED: Final = Verdict("the key has expired")


def sign(secret: bytes, action: Action, application: str, name: str, expires: str) -> str:
    """The token of a key."""
    signed = f"{action.value}/{application}/{name}/{expires}"
    return hmac.new(secret, signed.encode(), hashlib.sha256).hexdigest()


@final
class StreamKeys:
    """``required_for``: the actions that need a key, publish or play or both."""

    def __init__(self, secrets: Iterable[bytes], required_for: Iterable[Action]) -> None:
        self._secrets = tuple(secrets)
        self._required_for = frozenset(required_for)

    def judge(self, request: AccessRequest, wall_now: float) -> Verdict:
        """The verdict at ``wall_now``, in seconds since 1970."""
        if request.action not in self._required_for:
            return ALLOWED
        expires, token = _key_of(request.query)
        if not expires or not token:
            return _MISSING
        if not any(
            hmac.compare_digest(
                sign(secret, request.action, request.application, request.name, expires), token
            )
            for secret in self._secrets
        ):
            return _WRONG
        return ALLOWED if wall_now < int(expires) else _EXPIRED


def _key_of(query: str) -> tuple[str, str]:
    """``expires`` and ``token``, in lower case; empty if they are missing, malformed or repeated."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_MOST_ARGUMENTS)
    except ValueError:
        return "", ""
    arguments = dict(pairs)
    if len(arguments) != len(pairs):
        return "", ""
    expires, token = arguments.get("expires", ""), arguments.get("token", "")
    if not _SECONDS.fullmatch(expires) or not _TOKEN.fullmatch(token):
        return "", ""
    return expires, token.lower()
