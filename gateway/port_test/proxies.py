"""HTTP proxies: the one to use for each protocol, from the environment or an option, and CONNECT requests.

Programs send RTMPT to the proxy with absolute targets, and reach the server for RTMPS and RTMPTS by
CONNECT. ``http_proxy`` is for the former, ``https_proxy`` for the latter, and ``no_proxy`` excludes hosts.
Credentials in a proxy's URL are sent as Basic credentials, and shown nowhere.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote, urlsplit
from urllib.request import proxy_bypass

from attrs import field, frozen

from gateway.addresses import ServerAddress, parse_plain_server, quoted
from gateway.port_test.ways import Way

# The port of curl and libfetch for a proxy without one.
_PROXY_PORT: Final = 1080


@frozen
class Proxy:
    """An HTTP proxy. ``authorization`` is the value of Proxy-Authorization; None without credentials."""

    server: ServerAddress
    authorization: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"http://{self.server}"


@frozen
class Proxies:
    """The proxies for RTMPT, and for the protocols in TLS; None for no proxy."""

    plain: Proxy | None = None
    secure: Proxy | None = None

    def proxy_for(self, way: Way) -> Proxy | None:
        """The proxy for a way; None for plain RTMP, which programs send past proxies."""
        if not way.proxied:
            return None
        return self.secure if way.protocol.secure else self.plain


def parse_proxy(text: str) -> Proxy:
    """Parse ``[http://][USER:PASSWORD@]HOST[:PORT]``. Raises ValueError, without the credentials."""
    url = urlsplit(text if "://" in text else f"http://{text}")
    credentials, at, authority = url.netloc.rpartition("@")
    if url.scheme != "http" or url.path not in ("", "/") or url.query or url.fragment:
        shown = f"{url.scheme}://{authority}{url.path}"
        raise ValueError(f"{quoted(shown)}: expected http://[USER:PASSWORD@]HOST:PORT")
    return Proxy(parse_plain_server(authority, _PROXY_PORT), _basic(credentials) if at else None)


def proxies_of(environment: Mapping[str, str], host: str) -> Proxies:
    """The proxies that the environment has for ``host``. Raises ValueError with the variable's name."""
    if proxy_bypass(host, {"no": _value(environment, "no_proxy")}):
        return Proxies()
    return Proxies(_named(environment, "http_proxy"), _named(environment, "https_proxy"))


def _value(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name) or environment.get(name.upper(), "")


def _named(environment: Mapping[str, str], name: str) -> Proxy | None:
    value = _value(environment, name)
    try:
        return parse_proxy(value) if value else None
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _basic(credentials: str) -> str:
    user, _, password = credentials.partition(":")
    pair = f"{unquote(user)}:{unquote(password)}"
    return f"Basic {b64encode(pair.encode()).decode()}"
