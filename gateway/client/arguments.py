"""The arguments of ``rtmpt-client`` and ``twistd rtmpt-client``, and the settings that they make.

A wrong argument ends the process with status 2 and one line, a file that cannot be used with status 1.
"""

from __future__ import annotations

import argparse
import os
import ssl
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

from gateway.addresses import (
    ListenAddress,
    TcpAddress,
    is_ipv4,
    is_ipv6,
    parse_listen_address,
    parse_plain_server,
    parse_server,
    quoted,
)
from gateway.client.proxied_ways import ProxiedWay, with_proxies
from gateway.client.settings import (
    DEFAULT_LISTEN,
    MOST_CONNECTIONS,
    TIMEOUT_S,
    WAYS,
    Settings,
)
from gateway.client.state_file import default_state_file
from gateway.command_line import Parser
from gateway.errors import ConfigurationError
from gateway.http_proxies import NO_PROXIES, Proxies, parse_proxy, proxies_of, userinfo_of
from gateway.port_test.ways import DEFAULT_PORTS, Protocol, Way, parse_way
from gateway.process_arguments import hide_argument
from gateway.protocols.tunnel_client.requests import CLIENT_PRODUCT
from gateway.telemetry.versions import version_of
from gateway.upstreams.tls_client import client_context, read_authorities

NAME: Final = CLIENT_PRODUCT
_MOST_WAYS: Final = 16
_SHORTEST_S, _LONGEST_S = 1.0, 120.0
_LEVELS: Final = ("debug", "info", "warn", "error")
_SCHEMES: Final = tuple(each.value for each in Protocol)
# Written instead of a file's path.
_NO_FILE: Final = "none"
_EPILOG: Final = f"""\
The ways to the gateway are tried in this order: {", ".join(map(str, WAYS))}.
Each begins 0.25 s after the one before it, or at once if that fails. The first on which the server answers
the RTMP handshake carries the stream, and is tried first the next time in the same network.

A local program publishes to rtmp://127.0.0.1/APPLICATION and plays from there, as from the media server.
"""

_Parsed = TypeVar("_Parsed")


def make_parser(program: str = NAME) -> Parser:
    """The parser of all arguments; ``program`` is the command that the help text names."""
    parser = Parser(
        prog=program,
        description="Connect local RTMP programs to a gateway by the first way that works: RTMP, RTMPS,"
        " RTMPT or RTMPTS.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_addresses(parser)
    _add_path(parser)
    _add_operation(parser)
    return parser


def _add_addresses(parser: Parser) -> None:
    parser.add_argument(
        "--gateway",
        metavar="SERVER",
        required=True,
        help="the gateway: HOST for all ways; HOST:PORT for all protocols on this port; or a URL such as"
        " rtmpts://HOST for one way",
    )
    parser.add_argument(
        "--listen",
        metavar="ADDRESS",
        action="append",
        default=[],
        help="accept local programs on this address, such as 127.0.0.1:1935 or [::1]:1935; may be"
        f" repeated [default: {DEFAULT_LISTEN}]",
    )
    parser.add_argument(
        "--allow-remote",
        action="store_true",
        help="permit --listen and --metrics on addresses that other machines can reach: all who can"
        " connect may then use the gateway through this program",
    )


def _add_path(parser: Parser) -> None:
    """Options for the path to the gateway."""
    parser.add_ways()
    through = parser.add_mutually_exclusive_group()
    through.add_argument(
        "--proxy",
        metavar="URL",
        help="reach the gateway through this HTTP proxy only, http://USER:PASSWORD@HOST:PORT [default:"
        " http_proxy, https_proxy, all_proxy and no_proxy of the environment, and connections without a"
        " proxy]",
    )
    through.add_argument(
        "--no-proxy", action="store_true", help="use no HTTP proxy, even if the environment has one"
    )
    parser.add_authorities()
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        default=str(TIMEOUT_S),
        help=f"give up if no way has answered after this time [default: {TIMEOUT_S:.0f}]",
    )


def _add_operation(parser: Parser) -> None:
    """Options for limits, files and logs."""
    parser.add_argument(
        "--connections",
        metavar="N",
        default=str(MOST_CONNECTIONS),
        help=f"accept at most this number of local connections at a time [default: {MOST_CONNECTIONS}]",
    )
    parser.add_argument(
        "--state",
        metavar="FILE",
        help="remember in this file which way was used in which network, or none to keep no file"
        " [default: ways.json in $STATE_DIRECTORY, $XDG_STATE_HOME/rtmpt-client or"
        " ~/.local/state/rtmpt-client]",
    )
    parser.add_argument(
        "--metrics",
        metavar="ADDRESS",
        help="serve Prometheus metrics at http://ADDRESS/metrics, such as 127.0.0.1:9136 [default: none]",
    )
    parser.add_argument(
        "--log-level",
        metavar="LEVEL",
        choices=_LEVELS,
        default="info",
        help=f"log from this level on, one of {', '.join(_LEVELS)} [default: info]",
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"{NAME} {version_of('rtmpt-gateway')}",
        help="print the version, and exit",
    )


def parse(
    words: Sequence[str], environment: Mapping[str, str] = os.environ, program: str = NAME
) -> Settings:
    """The settings. A wrong argument ends the process."""
    parser = make_parser(program)
    arguments = parser.parse_args(words)

    def parsed(name: str, function: Callable[[str], _Parsed], text: str) -> _Parsed:
        return parser.parsed(f"argument {name}", function, text)

    host, ways = parsed("--gateway", _gateway, arguments.gateway)
    chosen = [parsed("--way", parse_way, each) for each in arguments.way]
    if len(chosen) > _MOST_WAYS:
        parser.error(f"argument --way: at most {_MOST_WAYS} ways")
    if chosen and ways is not WAYS:
        parser.error("argument --way: give the gateway by its host alone, and its ports by --way")
    proxies = NO_PROXIES
    if arguments.proxy is not None:
        proxy = parsed("--proxy", parse_proxy, arguments.proxy)
        hide_argument(userinfo_of(arguments.proxy))
        proxies = Proxies(proxy, proxy)
    elif not arguments.no_proxy:
        proxies = _of_environment(parser, environment, host)
    ways = tuple(dict.fromkeys(chosen)) or ways
    listen = [
        parsed("--listen", parse_listen_address, each)
        for each in arguments.listen or [DEFAULT_LISTEN]
    ]
    metrics = None
    if arguments.metrics is not None:
        metrics = parsed("--metrics", _metrics_address, arguments.metrics)
    settings = Settings(
        host=host,
        ways=with_proxies(ways, proxies, is_only=arguments.proxy is not None),
        proxies=proxies,
        context=_context(parser, arguments.ca),
        listen=tuple(listen),
        state_file=_state_file(arguments.state, environment),
        metrics=metrics,
        most_connections=parsed("--connections", _count, arguments.connections),
        timeout_s=parsed("--timeout", _seconds, arguments.timeout),
        allows_remote=arguments.allow_remote,
        log_level=arguments.log_level,
    )
    _check(parser, settings)
    return settings


def is_local(address: ListenAddress) -> bool:
    """Whether only programs of this machine can connect. A socket of systemd's shows that later."""
    return not isinstance(address, TcpAddress) or address.is_loopback


def _gateway(text: str) -> tuple[str, tuple[Way, ...]]:
    """The host, and the ways by the port or URL."""
    if "://" in text:
        return _gateway_of_url(text)
    # Without a port in the text, each gets its own default.
    with_default = parse_plain_server(text, DEFAULT_PORTS[Protocol.RTMP])
    without = parse_plain_server(text, DEFAULT_PORTS[Protocol.RTMPT])
    if with_default != without:
        return with_default.host, WAYS
    return with_default.host, tuple(Way(protocol, with_default.port) for protocol in Protocol)


def _gateway_of_url(text: str) -> tuple[str, tuple[Way, ...]]:
    server = parse_server(text)
    if server.scheme not in _SCHEMES:
        schemes = ", ".join(f"{each}://" for each in _SCHEMES)
        raise ValueError(f"{quoted(text)}: expected one of {schemes}; RTMPE passes by all of them")
    if server.is_service:
        raise ValueError(f"{quoted(text)}: expected a host, not the name of SRV records")
    return server.host, (Way(Protocol(server.scheme), server.port),)


def _of_environment(parser: Parser, environment: Mapping[str, str], host: str) -> Proxies:
    try:
        return proxies_of(environment, host)
    except ValueError as error:
        parser.error(f"environment: {error}; or give --no-proxy")


def _metrics_address(text: str) -> TcpAddress:
    address = parse_listen_address(text)
    if not isinstance(address, TcpAddress):
        raise ValueError(f"{quoted(text)}: expected an IP address and a port")
    return address


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not _SHORTEST_S <= seconds <= _LONGEST_S:
        raise ValueError(
            f"{quoted(text)}: expected seconds from {_SHORTEST_S:.0f} to {_LONGEST_S:.0f}"
        )
    return seconds


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:6]) <= 10_000):
        raise ValueError(f"{quoted(text)}: expected a number from 1 to 10000")
    return int(text)


def _state_file(text: str | None, environment: Mapping[str, str]) -> Path | None:
    if text is None:
        return default_state_file(environment)
    # twistd as a daemon changes its working directory.
    return None if text == _NO_FILE else Path(text).absolute()


def _context(parser: Parser, file: str | None) -> ssl.SSLContext:
    try:
        return client_context(read_authorities(file) if file is not None else b"")
    except ConfigurationError as error:
        parser.exit(1, f"{NAME}: argument --ca: {error}\n")


def _check(parser: Parser, settings: Settings) -> None:
    addresses: list[ListenAddress] = [*settings.listen]
    if settings.metrics is not None:
        addresses.append(settings.metrics)
    for address in addresses:
        if not settings.allows_remote and not is_local(address):
            parser.error(
                f"{quoted(str(address))}: other machines can connect there; use 127.0.0.1 or [::1], or"
                " permit it by --allow-remote"
            )
    for way in settings.ways:
        for address in settings.listen:
            if not isinstance(way, ProxiedWay) and _is_itself(settings.host, way.port, address):
                parser.error(
                    f"argument --gateway: {way} at {settings.host} is this program's own --listen"
                    f" {address}; use another port for one of them"
                )


def _is_itself(host: str, port: int, address: ListenAddress) -> bool:
    if not isinstance(address, TcpAddress) or address.port != port:
        return False
    name = host.lower().removesuffix(".")
    if name == "localhost" or (address.is_wildcard and _is_loopback(name)):
        return True
    return name == address.host


def _is_loopback(host: str) -> bool:
    return (is_ipv4(host) or is_ipv6(host)) and TcpAddress(host, 0).is_loopback
