"""Checks of routes against listeners, upstreams and each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gateway.addresses import quoted
from gateway.configuration.problems import Problem
from gateway.configuration.sections import Config


def check_routes(config: Config) -> Iterator[Problem]:
    """All problems of the routes."""
    yield from _check_names(config)
    yield from _check_server_names(config)
    yield from _check_order(config)
    yield from _check_rtmpe(config)


def _check_names(config: Config) -> Iterator[Problem]:
    upstreams = [each.name or str(number) for number, each in enumerate(config.upstreams, 1)]
    listeners = [str(each.address) for each in config.listeners]
    for index, route in enumerate(config.routes):
        named = map(str, route.listeners)
        yield from _unknown(("route", index, "upstream"), route.upstreams, upstreams)
        yield from _unknown(("route", index, "listener"), named, listeners)


def _unknown(
    path: tuple[str, int, str], names: Iterable[str], known: Iterable[str]
) -> Iterator[Problem]:
    """Each of the names that no ``[[upstream]]`` or ``[[listener]]`` has."""
    listed = ", ".join(map(quoted, known)) or "none"
    for item, name in enumerate(names):
        if name not in known:
            yield Problem((*path, item), f"{quoted(name)}: no such [[{path[2]}]]; known: {listed}")


def _check_server_names(config: Config) -> Iterator[Problem]:
    if any(listener.tls for listener in config.listeners):
        return
    for index, route in enumerate(config.routes):
        if route.server_names:
            yield Problem(("route", index, "sni"), "requires a listener with tls = true; add one")


def _check_order(config: Config) -> Iterator[Problem]:
    everything = [index for index, route in enumerate(config.routes) if route.matches_all]
    for index in range(len(config.routes)):
        if everything and index > everything[0]:
            yield Problem(
                ("route", index),
                f"never used, because [[route]] {everything[0] + 1} has no condition; move that one"
                " to the end",
            )


def _check_rtmpe(config: Config) -> Iterator[Problem]:
    """When a client begins its handshake, it must be known whether the gateway decrypts it."""
    reading = [
        f"[[route]] {number} has application, stream or rewrite"
        for number, route in enumerate(config.routes, 1)
        if route.reads_connect
    ] + [
        f"[[upstream]] {number} has hash_by = {quoted(upstream.hash_by)}"
        for number, upstream in enumerate(config.upstreams, 1)
        if upstream.hashes_stream
    ]
    decrypted = {
        index: {upstream.decrypts(server) for server in upstream.servers}
        for index, upstream in enumerate(config.upstreams)
        if upstream in config.upstreams_of_clients
    }
    if not reading or len(set().union(*decrypted.values())) < 2:
        return
    for index, found in decrypted.items():
        if False in found:
            yield Problem(
                ("upstream", index, "rtmpe"),
                f'"opaque" is not possible beside others that decrypt RTMPE: {reading[0]}; use'
                ' "terminate" here too, or nowhere',
            )
