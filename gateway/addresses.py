"""Parsing of configured addresses: listening addresses, servers and networks.

A listening address is never a host name, because a name can resolve to several addresses, and to others
later. A server is a host name or an IP address; host names are resolved in upstreams/, not here. Parsers
raise ValueError with the value and what was expected.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from attrs import frozen

RTMP_PORT = 1935
PEER_PORT = 1936
HTTP_PORT = 80
HTTPS_PORT = 443
# The schemes of media servers, with the default ports of players.
_SCHEME_PORTS = {
    "rtmp": RTMP_PORT,
    "rtmps": HTTPS_PORT,
    "rtmpt": HTTP_PORT,
    "rtmpts": HTTPS_PORT,
    "rtmpe": RTMP_PORT,
    "rtmpte": HTTP_PORT,
}

Network = IPv4Network | IPv6Network

# RFC 952 and RFC 1123, and underscores, which many internal networks use.
_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?"
)
_PORT = re.compile(r"[0-9]{1,5}")
_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<user>[^/?#]*@)?(?P<server>[^/?#]*)(?P<path>.*)",
    re.DOTALL,
)
# The names of SRV records of TCP services (RFC 2782), which no host has.
_SERVICE = re.compile(r"_[A-Za-z0-9-]{1,62}\._tcp\.(?P<domain>.+)", re.IGNORECASE)
# Short forms of nginx, HAProxy and Go for a port on all addresses, and a name with two addresses.
_SHORT = re.compile(
    r"(?P<name>\*?|localhost):(?P<port>[0-9]{1,5})|(?P<bare>[0-9]{1,5})", re.IGNORECASE
)
_SOCKET_NAME = re.compile(r"[\x21-\x39\x3b-\x7e]{1,255}")  # systemd's FileDescriptorName: no colon
# sun_path of Linux has 108 bytes, with the terminating null byte.
_UNIX_PATH_BYTES = 107
_SHOWN_CHARACTERS = 60

_LISTENING_FORMS = 'such as "127.0.0.1:80", "[::]:80", "unix:/PATH" or "systemd:NAME"'


@frozen
class TcpAddress:
    """An IP address of this machine and a port. With port 0 the system chooses one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        return ip_address(self.host).is_loopback

    @property
    def is_wildcard(self) -> bool:
        """Whether it stands for all addresses of its family."""
        return ip_address(self.host).is_unspecified

    def __str__(self) -> str:
        return _joined(self.host, self.port)


@frozen
class UnixAddress:
    """A UNIX socket. The permissions of its directory decide who can connect."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@frozen
class SystemdAddress:
    """A socket that systemd opens and passes with this name (``FileDescriptorName=``)."""

    name: str

    def __str__(self) -> str:
        return f"systemd:{self.name}"


ListenAddress = TcpAddress | UnixAddress | SystemdAddress


def overlap(one: ListenAddress, other: ListenAddress) -> bool:
    """Whether the system refuses to listen on both. IPv6 sockets accept no IPv4 connections here."""
    if not (isinstance(one, TcpAddress) and isinstance(other, TcpAddress)):
        return one == other
    # With port 0 the system chooses different ports.
    if one.port != other.port or one.port == 0:
        return False
    first, second = ip_address(one.host), ip_address(other.host)
    if first.version != second.version:
        return False
    return first == second or one.is_wildcard or other.is_wildcard


@frozen
class ServerAddress:
    """A server: a host name, an IPv4 or an IPv6 address (without brackets), and a port.

    ``scheme``: the way to speak RTMP to it, one of ``_SCHEME_PORTS``. Other servers have none.
    Of a service, ``host`` is the name of its SRV records, which have the servers and their ports; its
    ``port`` is 0.
    """

    host: str
    port: int
    scheme: str = "rtmp"

    @property
    def is_service(self) -> bool:
        """Whether it stands for the servers in SRV records."""
        return self.port == 0

    @property
    def domain(self) -> str:
        """The host; of a service, the domain that has it."""
        service = _SERVICE.fullmatch(self.host) if self.is_service else None
        return service["domain"] if service else self.host

    @property
    def is_tls(self) -> bool:
        """Whether it is reached by TLS."""
        return self.scheme in ("rtmps", "rtmpts")

    @property
    def url(self) -> str:
        """The beginning of its URLs, without the scheme's own port."""
        is_default = self.port in (0, _SCHEME_PORTS[self.scheme])
        joined = _joined(self.domain, self.port)
        return f"{self.scheme}://{joined.rpartition(':')[0] if is_default else joined}"

    @property
    def is_tunnel(self) -> bool:
        """Whether RTMP is tunnelled to it through HTTP."""
        return self.scheme in ("rtmpt", "rtmpts", "rtmpte")

    @property
    def is_rtmpe(self) -> bool:
        """Whether RTMP to it is encrypted as RTMPE."""
        return self.scheme in ("rtmpe", "rtmpte")

    @property
    def authority(self) -> str:
        """The value of the Host field of HTTP requests to it."""
        return _joined(self.host.partition("%")[0], self.port)

    def __str__(self) -> str:
        joined = self.host if self.is_service else _joined(self.host, self.port)
        return joined if self.scheme == "rtmp" else f"{self.scheme}://{joined}"


def quoted(value: object) -> str:
    """The value as JSON in one short line, with control characters escaped."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    line = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
    if len(line) <= _SHOWN_CHARACTERS:
        return line
    end = '..."' if isinstance(value, str) else "..."
    return line[: _SHOWN_CHARACTERS - len(end)] + end


def parse_listen_address(text: object) -> ListenAddress:
    """Parse a listening address. Raises ValueError."""
    written = _text(text)
    scheme, _, rest = written.partition(":")
    return _LISTENING_SCHEMES.get(scheme, _parse_tcp)(written, rest)


def parse_server(text: object) -> ServerAddress:
    """Parse an upstream server, "HOST:PORT" or a URL without a path, or the name of SRV records in their
    place. Raises ValueError.
    """
    written = _text(text)
    url = _URL.fullmatch(written)
    if url is None:
        return _server(written, written, "rtmp")
    scheme = url["scheme"].lower()
    if scheme not in _SCHEME_PORTS:
        known = ", ".join(quoted(f"{each}://") for each in _SCHEME_PORTS)
        raise ValueError(f"{quoted(written)}: expected one of {known}, or none of them")
    for part, cause in (("user", "user name"), ("path", "path")):
        if url[part]:
            raise ValueError(
                f"{quoted(written)}: leave out the {cause} {quoted(url[part])}; clients send their own"
            )
    return _server(written, url["server"], scheme)


def _server(written: str, server: str, scheme: str) -> ServerAddress:
    host, port = _host_and_port(written, server, _SCHEME_PORTS[scheme])
    if not _SERVICE.fullmatch(host):
        return ServerAddress(host, port, scheme)
    if ":" in server:
        raise ValueError(f"{quoted(written)}: leave out the port; the SRV records have it")
    return ServerAddress(host, 0, scheme)


def parse_plain_server(text: object, default_port: int) -> ServerAddress:
    """Parse a server that is written without a scheme. Raises ValueError."""
    written = _text(text)
    url = _URL.fullmatch(written)
    if url:
        rest = " and the path" if url["path"] else ""
        raise ValueError(f"{quoted(written)}: leave out {quoted(url['scheme'] + '://')}{rest}")
    return ServerAddress(*_host_and_port(written, written, default_port))


def parse_website(text: object) -> ServerAddress:
    """Parse the website's server, "HOST:PORT", with port 80 as default. Raises ValueError."""
    return parse_plain_server(text, HTTP_PORT)


def parse_peer(text: object) -> ServerAddress:
    """Parse another node's address, "HOST:PORT", with port 1936 as default. Raises ValueError."""
    return parse_plain_server(text, PEER_PORT)


def parse_datagram_server(text: object) -> ServerAddress:
    """Parse the server of a UDP relay, "HOST:PORT", with port 1935 as default. Raises ValueError."""
    return parse_plain_server(text, RTMP_PORT)


def parse_network(text: object) -> Network:
    """Parse a network or a single IP address. Raises ValueError."""
    written = _text(text)
    try:
        return ip_network(written)
    except ValueError as error:
        if "host bits" in str(error):
            loose = ip_network(written, strict=False)
            raise ValueError(
                f"{quoted(written)}: has host bits set; did you mean {quoted(str(loose))}?"
            ) from None
        raise ValueError(
            f'{quoted(written)}: expected a network such as "10.0.0.0/8" or "2001:db8::/32"'
        ) from None


def _parse_tcp(written: str, _rest: str) -> TcpAddress:
    _refuse_short_form(written)
    host, port = _split(written)
    version = IPv6Address if "[" in written else IPv4Address
    if port is None or not _is_version(host, version):
        raise ValueError(f"{quoted(written)}: expected an address {_LISTENING_FORMS}")
    mapped = _mapped(host)
    if mapped is not None:
        raise ValueError(
            f"{quoted(written)}: expected the IPv4 address itself: {quoted(f'{mapped}:{port}')}"
        )
    return TcpAddress(host, _port(written, port))


def _refuse_short_form(written: str) -> None:
    """Refuse short forms of other programs, with the address to write instead."""
    short = _SHORT.fullmatch(written)
    if short is None:
        return
    port = short["port"] or short["bare"]
    forms = f'"0.0.0.0:{port}" (all IPv4 addresses) or "[::]:{port}" (all IPv6 addresses)'
    if (short["name"] or "").lower() == "localhost":
        forms = f'"127.0.0.1:{port}" (IPv4) or "[::1]:{port}" (IPv6)'
    raise ValueError(
        f"{quoted(written)}: expected an address such as {forms}; for both, two listeners"
    )


def _mapped(host: str) -> IPv4Address | None:
    """The IPv4 address in an IPv6 one (RFC 4291, 2.5.5.2)."""
    address = ip_address(host)
    return address.ipv4_mapped if isinstance(address, IPv6Address) else None


def _parse_unix(written: str, path: str) -> UnixAddress:
    if not path.startswith("/") or not path.isprintable():
        raise ValueError(f'{quoted(written)}: expected "unix:" and an absolute path')
    if len(path.encode()) > _UNIX_PATH_BYTES:
        raise ValueError(
            f"{quoted(written)}: path over {_UNIX_PATH_BYTES} bytes; use a shorter one"
        )
    return UnixAddress(path)


def _parse_systemd(written: str, name: str) -> SystemdAddress:
    if not _SOCKET_NAME.fullmatch(name):
        raise ValueError(f'{quoted(written)}: expected "systemd:" and a FileDescriptorName')
    return SystemdAddress(name)


_LISTENING_SCHEMES: dict[str, Callable[[str, str], ListenAddress]] = {
    "unix": _parse_unix,
    "systemd": _parse_systemd,
}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{quoted(value)}: expected a string in quotes")
    return value


def _split(written: str) -> tuple[str, str | None]:
    """The host, without the brackets of an IPv6 address, and the port, None if there is none."""
    if written.startswith("["):
        host, bracket, rest = written[1:].partition("]")
        colon, port = rest[:1], rest[1:]
        return (host if bracket and colon in ("", ":") else ""), (port if colon else None)
    host, colon, port = written.partition(":")
    return host, (port if colon else None)


def _port(written: str, digits: str) -> int:
    if not _PORT.fullmatch(digits) or int(digits) > 0xFFFF:
        raise ValueError(f"{quoted(written)}: port {quoted(digits)} is not a number up to 65535")
    return int(digits)


def _host_and_port(written: str, server: str, default_port: int) -> tuple[str, int]:
    """Parse ``server``, which is a part of ``written``. Raises ValueError."""
    host, port = _split(server)
    if not (is_ipv6(host) if "[" in server else is_host(host)):
        refuse_bare_ipv6(written, server)
        raise ValueError(f'{quoted(written)}: expected "HOST:PORT", "IPV4:PORT" or "[IPV6]:PORT"')
    number = default_port if port is None else _port(written, port)
    if number == 0:
        raise ValueError(f"{quoted(written)}: expected a port from 1 to 65535")
    return host, number


def refuse_bare_ipv6(written: str, server: str) -> None:
    """Raise ValueError for an IPv6 address without brackets, with the address to write instead."""
    if is_ipv6(server):
        raise ValueError(
            f"{quoted(written)}: expected the IPv6 address in brackets: {quoted(f'[{server}]')}"
        )


def is_host(host: str) -> bool:
    """Whether it is a host name or an IPv4 address. Digits and dots alone must be an IPv4 address."""
    if re.fullmatch(r"[0-9.]+", host):
        return is_ipv4(host)
    return _HOST_NAME.fullmatch(host) is not None


def is_ipv4(host: str) -> bool:
    """Whether it is an IPv4 address."""
    return _is_version(host, IPv4Address)


def is_ipv6(host: str) -> bool:
    """Whether it is an IPv6 address, without brackets."""
    return _is_version(host, IPv6Address)


def _is_version(host: str, version: Callable[[str], object]) -> bool:
    try:
        version(host)
    except ValueError:
        return False
    return True


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
