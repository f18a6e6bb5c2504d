"""Checks that compare several keys.

Each check takes a configuration whose keys are valid by themselves, and yields its problems. Nothing is
opened, read or resolved here: the modules that use a port, file or host name report what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

import attrs

from gateway.addresses import ListenAddress, UnixAddress, overlap, quoted
from gateway.configuration.problems import Problem
from gateway.configuration.route_checks import check_routes
from gateway.configuration.sections import (
    Config,
)
from gateway.configuration.udp_checks import check_udp
from gateway.configuration.upstream_sections import (
    Upstream,
)
from gateway.configuration.values import MOST_PUBLIC_PORTS, MOST_SERVERS
from gateway.protocols.limits import Limits

T = TypeVar("T")

# A day. A larger number was probably meant in another unit.
LONGEST_LIMIT_S: Final = 86_400.0


def check(config: Config) -> Iterator[Problem]:
    """All problems of all checks."""
    for check_section in _CHECKS:
        yield from check_section(config)


def _check_listener_options(config: Config) -> Iterator[Problem]:
    for index, listener in enumerate(config.listeners):
        if listener.congestion_control and isinstance(listener.address, UnixAddress):
            yield Problem(
                ("listener", index, "congestion_control"),
                "not supported by UNIX sockets; remove it",
            )


def _check_replace_publisher(config: Config) -> Iterator[Problem]:
    if config.tunnel.replace_publisher and not config.telemetry.enabled:
        yield Problem(
            ("tunnel", "replace_publisher"),
            "requires telemetry, which reads stream names; set [telemetry] enabled = true",
        )


def _check_port_test(config: Config) -> Iterator[Problem]:
    ports = config.port_test.public_ports
    if len(ports) > MOST_PUBLIC_PORTS:
        yield Problem(
            ("port_test", "public_ports"), f"more than {MOST_PUBLIC_PORTS} ports; remove some"
        )
    for index, port in _repeated(ports):
        yield Problem(
            ("port_test", "public_ports", index), f"{quoted(port)} is listed twice; remove one"
        )


def _check_access(config: Config) -> Iterator[Problem]:
    for index, rule in enumerate(config.access):
        if (rule.allow is None) == (rule.deny is None):
            yield Problem(("access", index), 'expected either "allow" or "deny"')
        if rule.stream != "*" and "connect" in (rule.allow, rule.deny):
            yield Problem(
                ("access", index, "stream"),
                "a connect has no stream; leave it out, or use application",
            )


def _check_callback(config: Config) -> Iterator[Problem]:
    callback = config.callback
    if callback is None:
        return
    if not any((callback.on_connect, callback.on_publish, callback.on_play, callback.on_done)):
        yield Problem(("callback",), "no URL; set on_connect, on_publish, on_play or on_done")
    if callback.timeout_s >= config.limits.stalled_write_s:
        yield Problem(
            ("callback", "timeout_s"),
            f"{callback.timeout_s:g}: must be less than [limits] stalled_write_s; else sessions end first",
        )
    if callback.on_done and not config.telemetry.enabled:
        yield Problem(
            ("callback", "on_done"),
            "requires telemetry, which reads stream names; set [telemetry] enabled = true",
        )


def _check_listeners(config: Config) -> Iterator[Problem]:
    if not config.listeners:
        yield Problem((), 'no [[listener]]; add one with its address, such as "0.0.0.0:80"')
    addresses = [listener.address for listener in config.listeners]
    for index, address in enumerate(addresses):
        conflict = _conflict(address, addresses[:index])
        if conflict:
            yield Problem(("listener", index, "address"), f"{conflict}; use another")


def _conflict(address: ListenAddress, listeners: Sequence[ListenAddress]) -> str:
    """Names the first listener that cannot be opened beside ``address``; "" if there is none."""
    for index, other in enumerate(listeners):
        if overlap(address, other):
            is_same = address == other
            conflict = "is already used by" if is_same else f"overlaps {quoted(str(other))} of"
            return f"{quoted(str(address))} {conflict} listener {index + 1}"
    return ""


def _check_workers(config: Config) -> Iterator[Problem]:
    if config.workers > 1 and config.uses_origin:
        yield Problem(
            ("workers",),
            "the embedded origin runs in one worker only; set workers = 1, or add an [[upstream]]",
        )


def _check_tls(config: Config) -> Iterator[Problem]:
    certificates, pairs = config.tls.certificates, config.tls.pairs
    for index, listener in enumerate(config.listeners):
        if listener.tls and not (certificates or pairs):
            yield Problem(
                ("listener", index, "tls"),
                "requires a certificate; add one in [tls], certificates, or in [[tls.certificate]]",
            )
    if (certificates or pairs) and not any(listener.tls for listener in config.listeners):
        yield Problem(
            ("tls", "certificates" if certificates else "certificate"),
            "not used by any listener; add tls = true to one, or remove them",
        )
    for index, path in _repeated(certificates):
        yield Problem(("tls", "certificates", index), f"{quoted(path)} is listed twice; remove one")
    for index, pair in _repeated(pairs):
        yield Problem(
            ("tls", "certificate", index, "chain"),
            f"{quoted(pair.chain)} is listed twice; remove one",
        )


def _check_proxy_protocol(config: Config) -> Iterator[Problem]:
    for index, listener in enumerate(config.listeners):
        if listener.proxy_protocol and not listener.trusted:
            yield Problem(
                ("listener", index, "proxy_protocol"),
                'requires "trusted"; list the networks of the proxies there',
            )


def _check_upstreams(config: Config) -> Iterator[Problem]:
    places = [
        ("upstream", index, "servers", item)
        for index, upstream in enumerate(config.upstreams)
        for item in range(len(upstream.servers))
    ]
    servers = [str(server) for upstream in config.upstreams for server in upstream.servers]
    for place, server in _repeated(servers):
        yield Problem(places[place], f"{quoted(server)} is listed twice; remove one")
    if len(servers) > MOST_SERVERS:
        yield Problem(
            places[MOST_SERVERS], f"too many; at most {MOST_SERVERS} servers are possible"
        )
    names = [upstream.name or index for index, upstream in enumerate(config.upstreams)]
    for index, name in _repeated(names):
        yield Problem(
            ("upstream", index, "name"), f"{quoted(name)} is the name of two upstreams; change one"
        )
    yield from _check_services(config)
    for index, upstream in enumerate(config.upstreams):
        if upstream.hash_by != "application" and upstream.choose != "hash":
            yield Problem(
                ("upstream", index, "hash_by"),
                f'{quoted(upstream.hash_by)}: requires choose = "hash"; add it, or remove hash_by',
            )
        if upstream.check_application is not None and upstream.check in ("off", "tcp"):
            yield Problem(
                ("upstream", index, "check_application"),
                f"{quoted(upstream.check_application)}: is not used with check ="
                f' "{upstream.check}"; change that to "rtmp", or remove check_application',
            )
        if 0.0 < upstream.balance_factor < 1.0:
            yield Problem(
                ("upstream", index, "balance_factor"),
                f"{upstream.balance_factor:g}: must be >= 1, such as 1.25, or 0 for no bound",
            )


def _check_services(config: Config) -> Iterator[Problem]:
    for index, upstream in enumerate(config.upstreams):
        for item, server in enumerate(upstream.servers):
            if server.address.is_service and server.weight != 1:
                yield Problem(
                    ("upstream", index, "servers", item, "weight"),
                    f"{server.weight}: the SRV records have the weights; remove it",
                )


def _check_mirrors(config: Config) -> Iterator[Problem]:
    names = {upstream.name for upstream in config.upstreams}
    for index, mirror in enumerate(config.mirrors):
        if mirror.upstream not in names:
            yield Problem(
                ("mirror", index, "upstream"),
                f'no [[upstream]] has the name {quoted(mirror.upstream)}; add name = "..." to one',
            )
    for index, upstream in _repeated([mirror.upstream for mirror in config.mirrors]):
        yield Problem(
            ("mirror", index, "upstream"),
            f"{quoted(upstream)} has another mirror; add an [[upstream]] for this one",
        )


def _check_upstream_tls(config: Config) -> Iterator[Problem]:
    for index, upstream in enumerate(config.upstreams):
        if upstream.tls_authorities and not upstream.tls_verify:
            yield Problem(
                ("upstream", index, "tls_verify"),
                "false: tls_authorities is not used then; remove one of them",
            )
        if not any(server.address.is_tls for server in upstream.servers):
            for key in _tls_keys(upstream):
                yield Problem(
                    ("upstream", index, key),
                    'not used by any server; write one with "rtmps://" or "rtmpts://", or remove it',
                )


def _tls_keys(upstream: Upstream) -> Iterator[str]:
    """The keys for TLS that are set."""
    for key in ("tls_authorities", "tls_certificate", "tls_server_name"):
        if getattr(upstream, key) is not None:
            yield key
    if not upstream.tls_verify:
        yield "tls_verify"


def _check_browsers(config: Config) -> Iterator[Problem]:
    policies = config.cross_domain
    if policies is not None and not any(
        (policies.domains, policies.crossdomain_file, policies.clientaccesspolicy_file)
    ):
        yield Problem(
            ("cross_domain",),
            "no policy; set domains, crossdomain_file or clientaccesspolicy_file",
        )
    if config.cors is not None and "*" in config.cors.origins and len(config.cors.origins) > 1:
        yield Problem(("cors", "origins"), '"*" allows all; remove the others, or "*"')


def _check_admin(config: Config) -> Iterator[Problem]:
    admin = config.admin
    if admin is None:
        return
    if not (admin.is_private or admin.token_file or admin.client_authorities):
        yield Problem(
            ("admin", "address"),
            f"{quoted(str(admin.address))}: reachable from other machines; use "
            '"127.0.0.1:PORT", "[::1]:PORT" or "unix:/PATH", or set "token_file" or "client_authorities"',
        )
    if admin.client_authorities and not admin.certificate:
        yield Problem(
            ("admin", "client_authorities"),
            'requires TLS; set "certificate" to the server\'s own certificate',
        )
    conflict = _conflict(admin.address, [listener.address for listener in config.listeners])
    if conflict:
        yield Problem(
            ("admin", "address"),
            f"{conflict}; use another port that clients cannot reach",
        )


def _check_peers(config: Config) -> Iterator[Problem]:
    node = config.node
    if node.address is None and not config.peers:
        return
    for key in ("certificate", "authorities"):
        if getattr(node, key) is None:
            yield Problem(("node", key), "is required for peers, which authenticate each other")
    nodes = [peer.node for peer in config.peers]
    for index, peer in enumerate(nodes):
        if peer == node.id:
            yield Problem(
                ("peer", index, "node"), f"{quoted(peer)} is this node itself; name another one"
            )
    for index, peer in _repeated(nodes):
        yield Problem(("peer", index, "node"), f"{quoted(peer)} is listed twice; remove one")


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
            ("limits", "buffers_share"),
            f"{limits.buffers_share:g}: must be <= 1, a share of the machine's memory",
        )
    if limits.body_bytes > limits.up_buffer_bytes:
        yield Problem(
            ("limits", "body_bytes"),
            f"{limits.body_bytes}: must be <= up_buffer_bytes ({limits.up_buffer_bytes});"
            " lower it, or raise up_buffer_bytes",
        )


# In the order in which problems are reported.
_CHECKS: Final[Sequence[Callable[[Config], Iterator[Problem]]]] = (
    _check_listener_options,
    _check_replace_publisher,
    _check_port_test,
    _check_access,
    _check_callback,
    _check_listeners,
    _check_workers,
    _check_tls,
    _check_proxy_protocol,
    _check_upstreams,
    _check_mirrors,
    _check_upstream_tls,
    check_routes,
    check_udp,
    _check_browsers,
    _check_admin,
    _check_peers,
    _check_limits,
)


def _repeated(values: Sequence[T]) -> Iterator[tuple[int, T]]:
    """Each value that equals an earlier one, with its index."""
    for index, value in enumerate(values):
        if value in values[:index]:
            yield index, value
