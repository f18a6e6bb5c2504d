"""The configured mirrors: where the streams of clients are published as well."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gateway.addresses import ServerAddress
from gateway.configuration.sections import (
    Config,
)
from gateway.configuration.upstream_sections import (
    Mirror,
)
from gateway.errors import ConfigurationError
from gateway.protocols.rtmp.publisher import Destination
from gateway.regular_files import read_private_file
from gateway.upstreams.mirrors import MirrorSettings

# The longest observed key has 60 characters.
_MOST_KEY_BYTES = 1024


def mirror_settings(configuration: Config) -> tuple[MirrorSettings, ...]:
    """The settings of all ``[[mirror]]``. Raises ConfigurationError if a file of one cannot be used."""
    return tuple(
        MirrorSettings(
            mirror.upstream,
            mirror.application,
            mirror.stream,
            _destination(mirror, _first_server(configuration, mirror), _key(configuration, index)),
        )
        for index, mirror in enumerate(configuration.mirrors)
    )


def _first_server(configuration: Config, mirror: Mirror) -> ServerAddress:
    named = (each for each in configuration.upstreams if each.name == mirror.upstream)
    return next(named).servers[0].address


def _destination(
    mirror: Mirror, server: ServerAddress, key: str
) -> Callable[[str, str], Destination]:
    def destination(application: str, stream: str) -> Destination:
        there = mirror.to_application or application
        return Destination(f"{server.url}/{there}", there, key or stream)

    return destination


def _key(configuration: Config, index: int) -> str:
    """The stream key of a mirror; empty without one."""
    path = configuration.mirrors[index].stream_key_file
    if path is None:
        return ""
    with configuration.source.at("mirror", index, "stream_key_file"):
        return read_stream_key(Path(path))


def read_stream_key(path: Path) -> str:
    """The only word of a file. Raises ConfigurationError."""
    content = read_private_file(path, _MOST_KEY_BYTES)
    key = content.strip()
    if not 1 <= len(key) <= _MOST_KEY_BYTES or not all(0x21 <= byte <= 0x7E for byte in key):
        raise ConfigurationError(f"{path}: expected a stream key: one word of printable ASCII")
    return key.decode()
