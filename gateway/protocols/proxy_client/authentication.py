"""Authentication at one HTTP proxy, for all connections to it.

    request without credentials     the proxy answers 407 with challenges; the strongest one is adopted
    later requests                  have the answer to it from the beginning
    407 nevertheless                Digest: its nonce has expired, and the new challenge is adopted
                                    otherwise: name and password are wrong

So a password is sent in the clear (Basic) only to a proxy that offers nothing better. A challenge gets a
*generation*: a request that was sent with an older one is repeated with the current one.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import Final, final

from gateway.protocols.fields import Items
from gateway.protocols.proxy_client.challenges import Challenge, challenges_of
from gateway.protocols.proxy_client.digest import Credentials, Digest, strength

_BASIC: Final = b"basic"
_STALE: Final = b"true"


@final
class Authentication:
    """``credentials``: None if there are none. ``new_cnonce``: returns random letters and digits.

    ``generation``: changes with what ``field`` returns, except for the counts of Digest.
    """

    __slots__ = ("_basic", "_credentials", "_digest", "_is_proven", "_new_cnonce", "generation")

    def __init__(self, credentials: Credentials | None, new_cnonce: Callable[[], str]) -> None:
        self._credentials = credentials
        self._new_cnonce = new_cnonce
        self._basic = b""
        self._digest: Digest | None = None
        # Whether a request with the current challenge's answer was accepted.
        self._is_proven = False
        self.generation = 0

    def field(self, method: bytes, target: bytes) -> bytes:
        """The line of a request's head, with its end; empty as long as the proxy has asked for nothing.

        ``target``: as it is in the request line.
        """
        if self._digest is not None:
            return b"Proxy-Authorization: %b\r\n" % self._digest.answer(method, target)
        return self._basic

    def note_accepted(self, generation: int) -> None:
        """The proxy has accepted a request that was made in ``generation``."""
        if generation == self.generation:
            self._is_proven = True

    def adopt(self, items: Items, generation: int) -> bool:
        """A request that was made in ``generation`` got 407 with these fields.

        Returns whether to repeat it: it has another answer now.
        """
        if generation != self.generation:
            return True
        challenge = max(challenges_of(items), key=_rank, default=None)
        if self._credentials is None or challenge is None or not _rank(challenge):
            return False
        is_new = not self._digest and not self._basic
        if not is_new and not self._has_expired(challenge):
            # The next request asks for a challenge again: the proxy's users may have changed by then.
            self._forget()
            return False
        self._answer(challenge, self._credentials)
        return True

    def explanation(self, items: Items) -> str:
        """What to do about a 407 with these fields that ``adopt`` did not help against."""
        challenges = challenges_of(items)
        if challenges and not any(map(_rank, challenges)):
            schemes = [each.scheme.decode("ascii").capitalize() for each in challenges]
            asked = ", ".join(dict.fromkeys(schemes))
            return f"it asks for {asked[:60]}, and only Basic and Digest are supported"
        if self._credentials is None:
            return "give --proxy with name and password"
        return "it does not accept the name and password"

    def _has_expired(self, challenge: Challenge) -> bool:
        """Whether the credentials may be right, and only the nonce is too old.

        A proxy that has forgotten a nonce, such as after its restart, does not call it stale.
        """
        is_stale = challenge.parameters.get(b"stale", b"").lower() == _STALE
        return self._digest is not None and (is_stale or self._is_proven)

    def _forget(self) -> None:
        self._basic, self._digest = b"", None
        self._is_proven = False
        self.generation += 1

    def _answer(self, challenge: Challenge, credentials: Credentials) -> None:
        self._forget()
        if challenge.scheme == _BASIC:
            pair = f"{credentials.user}:{credentials.password}".encode()
            self._basic = b"Proxy-Authorization: Basic %b\r\n" % b64encode(pair)
        else:
            self._digest = Digest(challenge, credentials, self._new_cnonce())


def _rank(challenge: Challenge) -> int:
    """Greater for a better scheme; 0 if it is not supported."""
    if challenge.scheme == _BASIC:
        return 1
    found = strength(challenge)
    return 1 + found if found else 0
