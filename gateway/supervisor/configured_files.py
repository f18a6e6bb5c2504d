"""Checks of what the configuration needs outside itself: certificates, token, authorities, secrets, policy
files, access log, this machine's addresses and algorithms.

They run for ``--check``, at the start and before a reload, with the functions that later read the files
again for use. Each line has the key's place in the configuration, and the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from stat import S_IROTH

from gateway.addresses import quoted
from gateway.configuration.problems import KeyPath
from gateway.configuration.sections import Config
from gateway.errors import ConfigurationError
from gateway.listeners.ports import check_congestion_control
from gateway.protocols.rtmp.rtmpe_keys import is_available
from gateway.supervisor import admin_files
from gateway.telemetry.logs.access_log import check_path
from gateway.workers.configured_files import certificate_files, certificates, writing_access_log
from gateway.workers.mirrors import mirror_settings
from gateway.workers.own_resources import own_resources
from gateway.workers.peering.node_tls import NodeTls
from gateway.workers.proxy_loops import is_local
from gateway.workers.stream_secrets import stream_keys
from gateway.workers.upstream_tls import client_tls


def check(configuration: Config, now: float) -> None:
    """Read all files, and look for the rest. Raises ConfigurationError with one line for each fault."""
    faults = []
    for read in _reads(configuration, now):
        try:
            read()
        except ConfigurationError as error:
            faults.append(str(error))
    if faults:
        raise ConfigurationError("\n".join(faults))


def warnings(configuration: Config) -> Iterator[str]:
    """Faults of files that passed ``check`` which do not prevent the start."""
    places: dict[KeyPath, str] = {
        ("tls", *place): paths.key for paths, _, place in certificate_files(configuration.tls)
    }
    if configuration.admin is not None and configuration.admin.certificate is not None:
        places["admin", "certificate"] = configuration.admin.certificate
    for index, upstream in enumerate(configuration.upstreams):
        if upstream.tls_certificate is not None:
            places["upstream", index, "tls_certificate"] = upstream.tls_certificate
        if not upstream.tls_verify:
            cause = "false: other machines can pose as the servers, and read and change all streams"
            yield configuration.source.line(("upstream", index, "tls_verify"), cause)
    for place, path in places.items():
        if _is_readable_by_all(Path(path)):
            cause = f"{path}: its private key is readable by all users; chmod o-r it"
            yield configuration.source.line(place, cause)


def _is_readable_by_all(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & S_IROTH)
    except OSError:
        # It was there when it was read, and is being renewed.
        return False


def _reads(configuration: Config, now: float) -> Iterator[Callable[[], object]]:
    yield partial(certificates, configuration, now)
    settings = configuration.admin
    if settings is not None:
        for read in (admin_files.token, admin_files.certificate, admin_files.authorities):
            yield partial(read, settings, configuration.source)
    if configuration.node.certificate is not None and configuration.node.authorities is not None:
        yield partial(NodeTls, configuration)
    yield partial(stream_keys, configuration)
    yield partial(mirror_settings, configuration)
    yield partial(own_resources, configuration)
    for index, upstream in enumerate(configuration.upstreams):
        yield partial(client_tls, configuration, index, now)
        if upstream.source_address is not None:
            yield partial(_check_source_address, configuration, index, upstream.source_address)
    yield partial(_check_access_log, configuration)
    for index, listener in enumerate(configuration.listeners):
        if listener.congestion_control:
            yield partial(_check_congestion_control, configuration, index)
    for index, upstream in enumerate(configuration.upstreams):
        if upstream.rtmpe == "terminate":
            yield partial(_check_rc4, configuration, ("upstream", index, "rtmpe"))
        for item, server in enumerate(upstream.servers):
            if server.address.is_rtmpe:
                place: KeyPath = ("upstream", index, "servers", item)
                yield partial(_check_rc4, configuration, place)


def _check_congestion_control(configuration: Config, index: int) -> None:
    with configuration.source.at("listener", index, "congestion_control"):
        check_congestion_control(configuration.listeners[index].congestion_control)


def _check_source_address(configuration: Config, index: int, address: str) -> None:
    if not is_local(ip_address(address)):
        with configuration.source.at("upstream", index, "source_address"):
            raise ConfigurationError(
                f"{quoted(address)}: no address of this machine; name one that `ip address` lists"
            )


def _check_rc4(configuration: Config, place: KeyPath) -> None:
    with configuration.source.at(*place):
        if not is_available():
            raise ConfigurationError(
                "RTMPE requires RC4, which OpenSSL does not provide here; enable its legacy provider, or do"
                ' without rtmpe = "terminate" and "rtmpe://"'
            )


def _check_access_log(configuration: Config) -> None:
    path = configuration.log.access
    if path is not None:
        with writing_access_log(configuration):
            check_path(Path(path))
