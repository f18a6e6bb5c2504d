"""Digest credentials (RFC 7616): MD5, SHA-256 and their ``-sess`` variants, with ``qop=auth`` or without.

Without it is RFC 2069, which old proxies use. A challenge with ``auth-int`` alone is not answered: each
request would have to be hashed with its body.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import new
from typing import Final, final
from urllib.parse import quote

from attrs import field, frozen

from gateway.protocols.proxy_client.challenges import Challenge

_SCHEME: Final = b"digest"
# The names of the algorithms, and those of hashlib; the stronger one last.
_HASHES: Final = {b"md5": "md5", b"sha-256": "sha256"}
_SESSION: Final = b"-sess"


@frozen
class Credentials:
    """The name and the password of a user of the proxy."""

    user: str
    password: str = field(repr=False)


def strength(challenge: Challenge) -> int:
    """Greater for a stronger hash; 0 if the challenge cannot be answered."""
    parameters = challenge.parameters
    name = parameters.get(b"algorithm", b"md5").lower().removesuffix(_SESSION)
    is_complete = b"realm" in parameters and b"nonce" in parameters
    has_qop = b"qop" not in parameters or _offers_auth(parameters[b"qop"])
    if challenge.scheme != _SCHEME or name not in _HASHES or not (is_complete and has_qop):
        return 0
    return 1 + list(_HASHES).index(name)


@final
class Digest:
    """The answers to one challenge, whose ``strength`` must not be 0; each is for one request.

    ``cnonce``: random letters and digits.
    """

    __slots__ = ("_count", "_hash", "_head", "_key", "_nonce", "_own", "_tail")

    def __init__(self, challenge: Challenge, credentials: Credentials, cnonce: str) -> None:
        parameters = challenge.parameters
        algorithm = parameters.get(b"algorithm", b"md5").lower()
        user, realm = credentials.user.encode(), parameters[b"realm"]
        # Empty without qop, which has neither a cnonce nor a count.
        self._own = cnonce.encode("ascii") if b"qop" in parameters else b""
        self._hash = _HASHES[algorithm.removesuffix(_SESSION)]
        self._nonce = parameters[b"nonce"]
        self._count = 0
        self._key = self._hashed(user, realm, credentials.password.encode())
        if algorithm.endswith(_SESSION):
            self._key = self._hashed(self._key, self._nonce, cnonce.encode("ascii"))
        if parameters.get(b"userhash", b"").lower() == b"true":
            name = b"username=%b, userhash=true" % _quoted(self._hashed(user, realm))
        else:
            name = _name_field(credentials.user)
        self._head = b"Digest %b, realm=%b, nonce=%b" % (name, _quoted(realm), _quoted(self._nonce))
        self._tail = _repeated(parameters)
        if algorithm.endswith(_SESSION) and not self._own:
            self._tail += b', cnonce="%b"' % cnonce.encode("ascii")

    def answer(self, method: bytes, target: bytes) -> bytes:
        """The value of ``Proxy-Authorization``. ``target`` is that of the request line."""
        request = self._hashed(method, target)
        if self._own:
            self._count += 1
            count = b"%08x" % self._count
            response = self._hashed(self._key, self._nonce, count, self._own, b"auth", request)
            counted = b', qop=auth, nc=%b, cnonce="%b"' % (count, self._own)
        else:
            response = self._hashed(self._key, self._nonce, request)
            counted = b""
        return b'%b, uri=%b, response="%b"%b%b' % (
            *(self._head, _quoted(target), response),
            *(counted, self._tail),
        )

    def _hashed(self, *parts: bytes) -> bytes:
        found = new(self._hash, b":".join(parts), usedforsecurity=False)
        return found.hexdigest().encode("ascii")


def _offers_auth(qop: bytes) -> bool:
    return b"auth" in {each.strip(b" \t").lower() for each in qop.split(b",")}


def _quoted(value: bytes) -> bytes:
    return b'"%b"' % value.replace(b"\\", b"\\\\").replace(b'"', b'\\"')


def _name_field(user: str) -> bytes:
    """RFC 7616, 3.4: a name that is not ASCII is in the notation of RFC 5987."""
    if user.isascii():
        return b"username=%b" % _quoted(user.encode("ascii"))
    return b"username*=UTF-8''%b" % quote(user, safe="").encode("ascii")


def _repeated(parameters: Mapping[bytes, bytes]) -> bytes:
    """The parameters that are sent back as they were received."""
    fields = b""
    if b"algorithm" in parameters:
        fields += b", algorithm=%b" % parameters[b"algorithm"]
    if b"opaque" in parameters:
        fields += b", opaque=%b" % _quoted(parameters[b"opaque"])
    return fields
