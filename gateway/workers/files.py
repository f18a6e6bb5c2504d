"""The files that the configuration names: tried before the start, in the way in which it will read them.

``check`` and ``warnings`` are for ``--check`` and for the moment before anything runs; what the gateway
then uses is read again, by the same functions. Each line names the configuration's place and the file.
What makes a file good is known by those who read it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from stat import S_IROTH

from gateway.configuration.sections import Config, Tls
from gateway.errors import ConfigurationError
from gateway.listeners.certificate_file import CertificatePaths
from gateway.listeners.certificates import CertificateStore
from gateway.listeners.ports import check_congestion_control
from gateway.telemetry.access import check_path
from gateway.workers import admin

Place = tuple[str | int, ...]


def certificates(configuration: Config, now: float) -> CertificateStore | None:
    """Those of ``[tls]``; ``now`` in seconds since 1970. Raises ConfigurationError, now and at a reload."""
    named = _certificates(configuration.tls)
    if not named:
        return None
    return CertificateStore(
        [paths for paths, _, _ in named],
        now,
        lambda index: configuration.source.at("tls", *named[index][1]),
    )


def _certificates(tls: Tls) -> list[tuple[CertificatePaths, Place, Place]]:
    """Each certificate of ``[tls]``, its place in the configuration, and that of its key."""
    joined = [
        (CertificatePaths.joined(path), ("certificates", index), ("certificates", index))
        for index, path in enumerate(tls.certificates)
    ]
    apart = [
        (
            CertificatePaths(pair.chain, pair.key),
            ("certificate", index),
            ("certificate", index, "key"),
        )
        for index, pair in enumerate(tls.pairs)
    ]
    return [*joined, *apart]


@contextmanager
def writing_access_log(configuration: Config) -> Iterator[None]:
    """What the system has against the access log is raised as ConfigurationError."""
    with configuration.source.at("log", "access"):
        try:
            yield
        except OSError as error:
            raise ConfigurationError(
                f"{configuration.log.access}: cannot be written: {error.strerror}; the folder must be"
                " there, and the gateway's user must be able to write in it"
            ) from None


def check(configuration: Config, now: float) -> None:
    """Read all files. Raises ConfigurationError, with a line for each fault of each."""
    faults = []
    for read in _reads(configuration, now):
        try:
            read()
        except ConfigurationError as error:
            faults.append(str(error))
    if faults:
        raise ConfigurationError("\n".join(faults))


def warnings(configuration: Config) -> Iterator[str]:
    """What is no reason not to start, of files that passed ``check``."""
    places: dict[Place, str] = {
        ("tls", *place): paths.key for paths, _, place in _certificates(configuration.tls)
    }
    if configuration.admin is not None and configuration.admin.certificate is not None:
        places["admin", "certificate"] = configuration.admin.certificate
    for place, path in places.items():
        if Path(path).stat().st_mode & S_IROTH:
            cause = f"{path}: everybody on this machine can read its private key; chmod o-r it"
            yield configuration.source.line(place, cause)


def _reads(configuration: Config, now: float) -> Iterator[Callable[[], object]]:
    yield partial(certificates, configuration, now)
    settings = configuration.admin
    if settings is not None:
        for read in (admin.token, admin.certificate, admin.authorities):
            yield partial(read, settings, configuration.source)
    yield partial(_check_access_log, configuration)
    for index, listener in enumerate(configuration.listeners):
        if listener.congestion_control:
            yield partial(_check_congestion_control, configuration, index)


def _check_congestion_control(configuration: Config, index: int) -> None:
    with configuration.source.at("listener", index, "congestion_control"):
        check_congestion_control(configuration.listeners[index].congestion_control)


def _check_access_log(configuration: Config) -> None:
    path = configuration.log.access
    if path is not None:
        with writing_access_log(configuration):
            check_path(Path(path))
