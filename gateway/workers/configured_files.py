"""Checks of the files that the configuration names: certificates, token, authorities, access log.

``check`` and ``warnings`` run for ``--check`` and before the gateway starts. They use the functions that
later read the files again for use. Each line has the key's place in the configuration, and the file. The
modules that use a file decide whether it is valid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from stat import S_IROTH

from gateway.configuration.problems import KeyPath
from gateway.configuration.sections import Config, Tls
from gateway.errors import ConfigurationError
from gateway.listeners.certificate_file import CertificatePaths
from gateway.listeners.certificates import CertificateStore
from gateway.listeners.ports import check_congestion_control
from gateway.telemetry.logs.access_log import check_path
from gateway.workers import admin


def certificates(configuration: Config, now: float) -> CertificateStore | None:
    """The certificates of ``[tls]``, None if there are none; ``now`` is in seconds since 1970.

    Raises ConfigurationError, and so does the store's ``reload``.
    """
    named = _certificates(configuration.tls)
    if not named:
        return None
    return CertificateStore(
        [paths for paths, _, _ in named],
        now,
        lambda index: configuration.source.at("tls", *named[index][1]),
    )


def _certificates(tls: Tls) -> list[tuple[CertificatePaths, KeyPath, KeyPath]]:
    """Each certificate of ``[tls]``, its key path within the table, and that of its private key."""
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
    """Raises ConfigurationError for an OSError of the access log."""
    with configuration.source.at("log", "access"):
        try:
            yield
        except OSError as error:
            raise ConfigurationError(
                f"{configuration.log.access}: cannot be written: {error.strerror}; the directory must"
                " exist, and the gateway's user must have write permission in it"
            ) from None


def check(configuration: Config, now: float) -> None:
    """Read all files. Raises ConfigurationError with one line for each fault."""
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
        ("tls", *place): paths.key for paths, _, place in _certificates(configuration.tls)
    }
    if configuration.admin is not None and configuration.admin.certificate is not None:
        places["admin", "certificate"] = configuration.admin.certificate
    for place, path in places.items():
        if Path(path).stat().st_mode & S_IROTH:
            cause = f"{path}: its private key is readable by all users; chmod o-r it"
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
