"""HTTP proxies as users write them: URLs, and the variables of the environment.

RTMPT is sent to the proxy of ``http_proxy`` with absolute targets; the proxy of ``https_proxy`` connects to
the server for all other protocols. ``all_proxy`` is used in place of each of these that is not set, and
``no_proxy`` excludes hosts: names with those below them, addresses, networks, or ``*``.

Credentials are percent-decoded. They are in no representation, and in no error. Parsers raise ValueError.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

from attrs import field, frozen

from gateway.addresses import ServerAddress, parse_plain_server, quoted
from gateway.protocols.proxy_client.digest import Credentials

# The port of curl and libfetch for a proxy without one.
_PROXY_PORT: Final = 1080


@frozen
class ProxyURL:
    """An HTTP proxy, and the credentials of its user, if there are any."""

    server: ServerAddress
    credentials: Credentials | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"http://{self.server}"


@frozen
class Proxies:
    """The proxy for requests in plain HTTP, and the one for CONNECT; None for no proxy."""

    plain: ProxyURL | None = None
    secure: ProxyURL | None = None


NO_PROXIES: Final = Proxies()


def userinfo_of(text: str) -> str:
    """The part of a URL with name and password, as it is written; empty if there is none."""
    return _url(text).netloc.rpartition("@")[0]


def parse_proxy(text: str) -> ProxyURL:
    """Parse ``[http://][USER:PASSWORD@]HOST[:PORT]``. Raises ValueError."""
    url = _url(text)
    userinfo, at, authority = url.netloc.rpartition("@")
    if "@" in url.path + url.query + url.fragment:
        raise ValueError(
            "the name and the password must be percent-encoded, such as %2F for a slash, %3F for a question"
            " mark and %23 for a number sign"
        )
    if url.scheme != "http" or url.path not in ("", "/") or url.query or url.fragment:
        shown = f"{url.scheme}://{authority}{url.path}"
        raise ValueError(f"{quoted(shown)}: expected http://[USER:PASSWORD@]HOST:PORT")
    server = parse_plain_server(authority, _PROXY_PORT)
    return ProxyURL(server, _credentials(userinfo, str(server)) if at else None)


def proxies_of(environment: Mapping[str, str], host: str) -> Proxies:
    """The proxies that the environment has for ``host``. Raises ValueError with the variable's name."""
    if _is_excluded(host, _value(environment, "no_proxy")):
        return NO_PROXIES
    return Proxies(_named(environment, "http_proxy"), _named(environment, "https_proxy"))


def _url(text: str) -> SplitResult:
    try:
        return urlsplit(text if "://" in text else f"http://{text}")
    except ValueError:
        # Its text can have the credentials.
        raise ValueError("not a URL: expected http://[USER:PASSWORD@]HOST:PORT") from None


def _value(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name) or environment.get(name.upper(), "")


def _named(environment: Mapping[str, str], name: str) -> ProxyURL | None:
    name = name if _value(environment, name) else "all_proxy"
    value = _value(environment, name)
    try:
        return parse_proxy(value) if value else None
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _credentials(userinfo: str, server: str) -> Credentials:
    user, _, password = (unquote(each) for each in userinfo.partition(":"))
    if not (user + password).isprintable():
        raise ValueError(f"{quoted(server)}: the name or the password has a control character")
    return Credentials(user, password)


def _is_excluded(host: str, excluded: str) -> bool:
    # Not ``proxy_bypass``, which on macOS and Windows reads the system's settings and takes no variables.
    return bool(proxy_bypass_environment(host, {"no": excluded})) or any(
        _contains(each.strip(), host) for each in excluded.split(",") if "/" in each
    )


def _contains(network: str, host: str) -> bool:
    """Whether ``host`` is an IP address in ``network``; False if one of them is malformed."""
    try:
        return ip_address(host) in ip_network(network, strict=False)
    except ValueError:
        return False
