"""Access control of the admin server: three checks of a request's head.

1. Host. If the server is reachable only from this machine, a web page could still resolve its own name to
   this address (DNS rebinding) and read responses as if from its own site. The host name must therefore be
   one of this machine, or a configured one.
2. Token, if one is configured: as a bearer token, or as the password of Basic authentication with any user
   name, because browsers can ask their users only for that.
3. Origin of changes. Browsers send the origin of a request in ``Sec-Fetch-Site`` or ``Origin``; other
   programs send neither. A request with a bearer token is always intentional.

Pure: takes a head, raises a problem.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Callable, Iterable
from hmac import compare_digest
from ipaddress import ip_address
from typing import Final, final

from gateway.admin.http.problems import ForeignOrigin, Unauthorized, WrongHost

# The value of a field by its name in lower case; None if it is missing or repeated.
Head = Callable[[str], str | None]

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")
_CHALLENGE: Final = 'Bearer realm="rtmpt-gateway", Basic realm="rtmpt-gateway", charset="UTF-8"'


@final
class AccessControl:
    """``token``: required unless empty. ``hosts``: permitted host names beside this machine's own.

    ``any_host``: whether all host names are permitted, because other sites cannot make browsers connect.
    """

    def __init__(
        self, token: bytes = b"", hosts: Iterable[str] = (), any_host: bool = False
    ) -> None:
        self._token = token
        self._hosts = frozenset(hosts)
        self._any_host = any_host

    def check(self, method: str, scheme: str, head: Head) -> None:
        """Raises WrongHost, Unauthorized or ForeignOrigin."""
        host = head("host") or ""
        if not self._any_host:
            self._check_host(host)
        if self._token and not self._knows_token(head("authorization") or ""):
            raise Unauthorized("a token is needed", WWW_Authenticate=_CHALLENGE)
        if method not in _SAFE and not self._is_bearer(head("authorization") or ""):
            _check_origin(f"{scheme}://{host}", head)

    def _check_host(self, host: str) -> None:
        found = _HOST.fullmatch(host.lower())
        if found is None or not (found[1] in self._hosts or _is_this_machine(found[1])):
            raise WrongHost("unknown host name; add it to [admin], hosts, if it is of this server")

    def _knows_token(self, authorization: str) -> bool:
        scheme, _, credentials = authorization.strip().partition(" ")
        find = _SCHEMES.get(scheme.lower())
        given = find(credentials.strip()) if find is not None else b""
        # In constant time, so that the duration does not reveal a correct beginning.
        return compare_digest(given, self._token)

    def _is_bearer(self, authorization: str) -> bool:
        return bool(self._token) and authorization.lower().startswith("bearer ")


def _bearer(credentials: str) -> bytes:
    return credentials.encode("utf-8", "surrogateescape")


def _basic(credentials: str) -> bytes:
    try:
        decoded = b64decode(credentials, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return decoded.partition(b":")[2]


_SCHEMES: Final[dict[str, Callable[[str], bytes]]] = {"bearer": _bearer, "basic": _basic}


def _check_origin(own: str, head: Head) -> None:
    site = head("sec-fetch-site")
    if site is not None:
        allowed = site in ("same-origin", "none")
    else:
        origin = head("origin")
        allowed = origin is None or origin.lower() == own.lower()
    if not allowed:
        raise ForeignOrigin("pages of other sites must not request changes")


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
