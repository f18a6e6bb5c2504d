"""What the operator wrote, as frozen classes: one class a table, one attribute a key.

The file is TOML, and etc/rtmpt-gateway.toml explains every key. Reading finds all problems before
it gives up, and names each on a line of its own: file, place, cause, what to do. A document that
comes out of here is whole and consistent, but nothing in it was tried: whether a certificate can
be read, a port is free or a server answers is found by whoever uses them, and said with the place
that ``source`` knows. Knows no Twisted.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NewType

import attrs
from attrs import field, frozen
from attrs.validators import ge, le

from gateway import structuring
from gateway.addresses import (
    ListenAddress,
    Network,
    ServerAddress,
    TcpAddress,
    UnixAddress,
    overlap,
    parse_listen_address,
    parse_network,
    parse_server,
    parse_website,
    quoted,
)
from gateway.errors import ConfigurationError
from gateway.protocols.limits import Limits, StreamedAnswers
from gateway.structuring import Invalid, Problem
from gateway.toml_lines import KeyLines

DEFAULT_LISTEN = "127.0.0.1:8080"
DEFAULT_ADMIN = TcpAddress("127.0.0.1", 9935)
# PROTOCOL.md, Held idle: what Flash Media Server's settings of these names allow an idle's answer.
LATENCIES: Mapping[str, float] = {"low": 0.25, "medium": 0.5, "high": 2.0}
LOG_LEVELS = ("debug", "info", "warn", "error", "critical")
# RootEncoder gives a request up after 5 s; an answer held longer would look like a dead gateway.
LONGEST_HOLD_S = 4.0
# A day. Whoever writes more meant another unit.
LONGEST_LIMIT_S = 86_400.0
# No configuration is near this; without a bound, a wrong path (/dev/zero) would fill the memory.
_FILE_BYTES = 1024 * 1024
# An absolute one: the gateway's folder is twistd's to choose, and not the one that the file is in.
AbsolutePath = NewType("AbsolutePath", str)
_WHERE = re.compile(r"(?P<cause>.*) \(at line (?P<line>\d+), column (?P<column>\d+)\)")


def _parse_latency(value: Any) -> float:
    """How long an idle is held, in seconds, by name or number; 0 never holds."""
    if isinstance(value, str) and value in LATENCIES:
        return LATENCIES[value]
    if type(value) in (int, float) and 0 <= value <= LONGEST_HOLD_S:  # a bool is neither
        return float(value)
    names = ", ".join(quoted(name) for name in LATENCIES)
    raise ValueError(f"{quoted(value)}: expected {names}, or 0 to {LONGEST_HOLD_S:g} seconds")


def _parse_streamed_answers(value: object) -> StreamedAnswers:
    try:
        return StreamedAnswers(value)
    except ValueError:
        names = ", ".join(quoted(who.value) for who in StreamedAnswers)
        raise ValueError(f"{quoted(value)}: expected {names}") from None


def _parse_congestion_control(value: object) -> str:
    # As the kernel names them (include/net/tcp.h, TCP_CA_NAME_MAX); which there are is known to it alone.
    if isinstance(value, str) and re.fullmatch(r"[a-z0-9_-]{1,15}", value):
        return value
    raise ValueError(f'{quoted(value)}: expected a name, such as "bbr" or "cubic"')


def _parse_node(value: object) -> str:
    if isinstance(value, str) and re.fullmatch(r"[0-9a-z]{2}", value):
        return value
    raise ValueError(f'{quoted(value)}: expected two of 0-9 and a-z, in quotes, such as "00"')


def _parse_each(value: object, parse: Callable[[object], str]) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{quoted(value)}: expected a list in [ ]")
    return tuple(parse(item) for item in value)


def _not_empty(_: object, __: object, values: tuple[object, ...]) -> None:
    if not values:
        raise ValueError("empty; name at least one")


@frozen
class Listener:
    """``[[listener]]``: a place where clients come in, and who may."""

    address: ListenAddress
    tls: bool = False
    proxy_protocol: bool = False
    trusted: tuple[Network, ...] = ()
    allow: tuple[Network, ...] = ()
    deny: tuple[Network, ...] = ()
    congestion_control: str = field(default="", metadata={"parse": _parse_congestion_control})


@frozen
class Upstream:
    """``[[upstream]]``: RTMP servers that stand in for each other, and for those of all others."""

    servers: tuple[ServerAddress, ...] = field(validator=_not_empty)


@frozen
class Certificate:
    """``[[tls.certificate]]``: a chain and its key in PEM files of their own, as ACME clients do."""

    chain: AbsolutePath
    key: AbsolutePath


@frozen
class Tls:
    """``[tls]``: certificates, chosen by the name that a client asks for.

    ``certificates`` are PEM files with chain and key. The first of them, or of ``pairs`` if there are none,
    is the default.
    """

    certificates: tuple[AbsolutePath, ...] = ()
    pairs: tuple[Certificate, ...] = field(default=(), metadata={"key": "certificate"})


@frozen
class Website:
    """``[website]``: the web server that gets every request which is no tunnel command."""

    server: ServerAddress = field(metadata={"parse": parse_website})


@frozen
class Tunnel:
    """``[tunnel]``: how a tunnel behaves."""

    hold_s: float = field(
        default=LATENCIES["low"], metadata={"key": "latency", "parse": _parse_latency}
    )
    streamed_answers: StreamedAnswers = field(
        default=StreamedAnswers.DIRECT, metadata={"parse": _parse_streamed_answers}
    )
    answer_s: float = field(default=1.0, validator=[ge(0.1), le(10.0)])
    replace_publisher: bool = False


def _parse_path(value: object) -> AbsolutePath:
    # It will be a part of lines that say what is wrong with the file.
    if isinstance(value, str) and value.startswith("/") and value.isprintable():
        return AbsolutePath(value)
    raise ValueError(f'{quoted(value)}: expected a path from the root, such as "/etc/..."')


def _parse_host(value: object) -> str:
    # As browsers write it in Host: a name or an address, without the port.
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]+\]", value):
        return value.lower()
    raise ValueError(
        f'{quoted(value)}: expected a name without a port, such as "admin.example.org"'
    )


@frozen
class Admin:
    """``[admin]``: the operator's HTTP, for this machine alone unless it knows whom to let in."""

    address: ListenAddress = DEFAULT_ADMIN
    token_file: AbsolutePath | None = field(default=None, metadata={"parse": _parse_path})
    certificate: AbsolutePath | None = field(default=None, metadata={"parse": _parse_path})
    client_authorities: AbsolutePath | None = field(default=None, metadata={"parse": _parse_path})
    hosts: tuple[str, ...] = field(
        default=(), metadata={"parse": lambda value: _parse_each(value, _parse_host)}
    )

    @property
    def is_private(self) -> bool:
        """Whether only this machine reaches it."""
        return isinstance(self.address, UnixAddress) or (
            isinstance(self.address, TcpAddress) and self.address.is_loopback
        )


def _parse_format(value: object) -> str:
    if value in ("text", "json"):
        return str(value)
    raise ValueError(f'{quoted(value)}: expected "text" or "json"')


def _parse_level(value: object) -> str:
    if value in LOG_LEVELS:
        return str(value)
    raise ValueError(f"{quoted(value)}: expected {', '.join(map(quoted, LOG_LEVELS))}")


@frozen
class Telemetry:
    """``[telemetry]``: what is measured of sessions, and how many are shown one by one."""

    enabled: bool = True
    media: bool = False
    session_series: int = field(default=1000, validator=ge(0))


@frozen
class Log:
    """``[log]``: how log lines look, which and how many there are, and where the access log goes."""

    format: str = field(default="text", metadata={"parse": _parse_format})
    level: str = field(default="info", metadata={"parse": _parse_level})
    lines_per_s: int = field(default=100, validator=ge(1))
    access: AbsolutePath | None = field(default=None, metadata={"parse": _parse_path})


@frozen
class Node:
    """``[node]``: which of several gateways this one is; every session id begins with it."""

    id: str = field(default="00", metadata={"parse": _parse_node})


def _parse_second_publisher(value: object) -> str:
    if value in ("refuse", "replace"):
        return str(value)
    raise ValueError(f'{quoted(value)}: expected "refuse" or "replace"')


@frozen
class Origin:
    """``[origin]``: the embedded media server, which serves where no upstream is configured."""

    second_publisher: str = field(default="refuse", metadata={"parse": _parse_second_publisher})


@frozen
class Source:
    """Where a configuration is from, for whoever finds something wrong with it later."""

    name: str
    place: Callable[[structuring.Path], str]
    # The line of a key in the file, counted from 1; None where that is not known.
    line_of: Callable[[structuring.Path], int | None] = lambda _: None

    @contextmanager
    def at(self, *path: str | int) -> Iterator[None]:
        """Whatever is refused inside is refused with its place: keys, and indices from 0."""
        try:
            yield
        except ConfigurationError as error:
            lines = [self.line(path, cause) for cause in str(error).splitlines()]
            raise ConfigurationError("\n".join(lines)) from None

    def line(self, path: structuring.Path, cause: str) -> str:
        """``FILE: line 12: [[listener]] 2, key "address": CAUSE``."""
        number = self.line_of(path)
        line = "" if number is None else f"line {number}"
        return ": ".join(filter(None, (self.name, line, self.place(path), cause)))


def _place_in_file(path: structuring.Path) -> str:
    """``[[listener]] 2, key "trusted", item 1``: as in the file, counted from 1."""
    if not path:
        return ""
    table, rest = str(path[0]), path[1:]
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,60}", table):
        table = quoted(table)
    parts = [f"[{table}]"]
    if rest and isinstance(rest[0], int):
        parts = [f"[[{table}]] {rest[0] + 1}"]
        rest = rest[1:]
    elif rest[:1] == ("certificate",) and len(rest) > 1:
        parts = [f"[[{table}.certificate]] {int(rest[1]) + 1}"]
        rest = rest[2:]
    parts += [
        f"item {step + 1}" if isinstance(step, int) else f"key {quoted(step)}" for step in rest
    ]
    return ", ".join(parts)


def _place_in_options(path: structuring.Path) -> str:
    return {"listener": "--listen", "upstream": "--upstream"}[str(path[0])]


@frozen
class Config:
    """All of it. No upstream means the embedded origin; no website or admin means none."""

    listeners: tuple[Listener, ...] = field(default=(), metadata={"key": "listener"})
    upstreams: tuple[Upstream, ...] = field(default=(), metadata={"key": "upstream"})
    tls: Tls = Tls()
    website: Website | None = None
    tunnel: Tunnel = Tunnel()
    admin: Admin | None = None
    node: Node = Node()
    origin: Origin = Origin()
    telemetry: Telemetry = Telemetry()
    log: Log = Log()
    limits: Limits = Limits()
    source: Source = field(
        default=Source("configuration", _place_in_file), eq=False, metadata={"key": None}
    )


_CONVERTER = structuring.make_converter(
    {
        ListenAddress: parse_listen_address,
        ServerAddress: parse_server,
        Network: parse_network,
        AbsolutePath: _parse_path,
    }
)


def from_file(path: Path) -> Config:
    """Read and check a file; raises ConfigurationError with one line for each problem."""
    source = str(path)
    text = _read_text(source, path)
    document = _parse_toml(source, text)
    return _structure(Source(source, _place_in_file, KeyLines(text).line_of), document)


def from_document(source: str, document: Mapping[str, object]) -> Config:
    """Check what a file held; ``source`` is what the problems call it."""
    return _structure(Source(source, _place_in_file), document)


def from_options(listen: Sequence[str], upstream: Sequence[str]) -> Config:
    """A configuration of the command line alone; raises ConfigurationError as ``from_file``."""
    document: dict[str, object] = {
        "listener": [{"address": address} for address in listen or [DEFAULT_LISTEN]]
    }
    if upstream:
        document["upstream"] = [{"servers": list(upstream)}]
    return _structure(Source("command line", _place_in_options), document)


def _read_text(source: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"{source}: cannot be read: {error.strerror}") from None
    if len(content) > _FILE_BYTES:
        raise ConfigurationError(f"{source}: over {_FILE_BYTES} bytes; this is no configuration")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"{source}: line {line}: not UTF-8; save it as UTF-8") from None


def _parse_toml(source: str, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigurationError(f"{source}: nested too deeply") from None
    except ValueError as error:
        raise ConfigurationError(f"{source}: {_syntax_problem(str(error))}") from None


def _syntax_problem(message: str) -> str:
    found = _WHERE.fullmatch(message)
    if not found:
        return f"not TOML: {message}"
    return f"line {found['line']}, column {found['column']}: not TOML: {found['cause']}"


def _structure(source: Source, document: Mapping[str, object]) -> Config:
    try:
        config = structuring.structure(_CONVERTER, document, Config)
        problems = list(_cross_check(config))
    except Invalid as error:
        problems = error.problems
    if problems:
        lines = [source.line(problem.path, problem.cause) for problem in problems]
        raise ConfigurationError("\n".join(lines))
    return attrs.evolve(config, source=source)


def _cross_check(config: Config) -> Iterator[Problem]:
    """What no key can see alone."""
    for check in _CHECKS:
        yield from check(config)


def _check_listeners(config: Config) -> Iterator[Problem]:
    if not config.listeners:
        yield Problem((), 'no [[listener]]; add one with its address, such as "0.0.0.0:80"')
    addresses = [listener.address for listener in config.listeners]
    for index, address in enumerate(addresses):
        earlier = _overlapping(address, addresses[:index])
        if earlier is not None:
            yield Problem(
                ("listener", index, "address"),
                f"{quoted(str(address))} {_taken(address, addresses[earlier])} by an earlier listener,"
                f" [[listener]] {earlier + 1}; use another",
            )


def _overlapping(address: ListenAddress, others: Sequence[ListenAddress]) -> int | None:
    """The index of the first of the others that cannot be listened on beside ``address``."""
    return next((index for index, other in enumerate(others) if overlap(address, other)), None)


def _taken(address: ListenAddress, other: ListenAddress) -> str:
    return "is taken" if address == other else f"overlaps {quoted(str(other))}, which is taken"


def _check_tls(config: Config) -> Iterator[Problem]:
    certificates, pairs = config.tls.certificates, config.tls.pairs
    for index, listener in enumerate(config.listeners):
        if listener.tls and not (certificates or pairs):
            yield Problem(
                ("listener", index, "tls"),
                "needs a certificate; name one in [tls], certificates, or in [[tls.certificate]]",
            )
    if (certificates or pairs) and not any(listener.tls for listener in config.listeners):
        yield Problem(
            ("tls", "certificates" if certificates else "certificate"),
            "no listener uses them; add tls = true to one, or remove them",
        )
    for index, path in _repeated(certificates):
        yield Problem(("tls", "certificates", index), f"{quoted(path)} is named twice; remove one")
    for index, pair in _repeated(pairs):
        yield Problem(
            ("tls", "certificate", index, "chain"),
            f"{quoted(pair.chain)} is named twice; remove one",
        )


def _check_proxy_protocol(config: Config) -> Iterator[Problem]:
    for index, listener in enumerate(config.listeners):
        if listener.proxy_protocol and not listener.trusted:
            yield Problem(
                ("listener", index, "proxy_protocol"),
                'needs to know whom to believe; name the proxies\' networks in "trusted"',
            )


def _check_upstreams(config: Config) -> Iterator[Problem]:
    places = [
        ("upstream", index, "servers", item)
        for index, upstream in enumerate(config.upstreams)
        for item in range(len(upstream.servers))
    ]
    servers = [server for upstream in config.upstreams for server in upstream.servers]
    for place, server in _repeated(servers):
        yield Problem(places[place], f"{quoted(str(server))} is named twice; remove one")


def _check_admin(config: Config) -> Iterator[Problem]:
    admin = config.admin
    if admin is None:
        return
    if not (admin.is_private or admin.token_file or admin.client_authorities):
        yield Problem(
            ("admin", "address"),
            f'{quoted(str(admin.address))}: open to others; use "127.0.0.1:PORT", "[::1]:PORT" or '
            '"unix:/PATH", or name who may use it: "token_file" or "client_authorities"',
        )
    if admin.client_authorities and not admin.certificate:
        yield Problem(
            ("admin", "client_authorities"),
            'clients show certificates in TLS alone; name the server\'s own in "certificate"',
        )
    addresses = [listener.address for listener in config.listeners]
    index = _overlapping(admin.address, addresses)
    if index is not None:
        yield Problem(
            ("admin", "address"),
            f"{quoted(str(admin.address))} {_taken(admin.address, addresses[index])} by a listener,"
            f" [[listener]] {index + 1}; use another port: clients must not reach this",
        )


def _check_limits(config: Config) -> Iterator[Problem]:
    limits = config.limits
    for attribute in attrs.fields(Limits):
        value = getattr(limits, attribute.name)
        if attribute.name.endswith("_s") and value > LONGEST_LIMIT_S:
            yield Problem(
                ("limits", attribute.name), f"{value:g}: must be <= {LONGEST_LIMIT_S:g} seconds"
            )
    if limits.buffers_share > 1.0:
        yield Problem(
            ("limits", "buffers_share"), f"{limits.buffers_share:g}: a share of memory is <= 1"
        )
    if limits.body_bytes > limits.up_buffer_bytes:
        yield Problem(
            ("limits", "body_bytes"),
            f"{limits.body_bytes}: a body must fit into up_buffer_bytes ({limits.up_buffer_bytes});"
            " raise that too, or lower this",
        )


def _check_listener_options(config: Config) -> Iterator[Problem]:
    for index, listener in enumerate(config.listeners):
        if listener.congestion_control and isinstance(listener.address, UnixAddress):
            yield Problem(
                ("listener", index, "congestion_control"),
                "a UNIX socket has none; remove it",
            )


def _check_replace_publisher(config: Config) -> Iterator[Problem]:
    if config.tunnel.replace_publisher and not config.telemetry.enabled:
        yield Problem(
            ("tunnel", "replace_publisher"),
            "needs telemetry, which reads who publishes what; set [telemetry] enabled = true",
        )


_CHECKS = (
    _check_listener_options,
    _check_replace_publisher,
    _check_listeners,
    _check_tls,
    _check_proxy_protocol,
    _check_upstreams,
    _check_admin,
    _check_limits,
)


def _repeated(values: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """Each value that an earlier one equals, with its index."""
    for index, value in enumerate(values):
        if value in values[:index]:
            yield index, value
