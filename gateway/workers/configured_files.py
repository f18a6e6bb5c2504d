"""The files that a worker uses: certificates and the access log.

Errors have the key's place in the configuration. The modules that use a file decide whether it is valid.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.configuration.problems import KeyPath
from gateway.configuration.sections import Config, Tls
from gateway.errors import ConfigurationError
from gateway.listeners.certificate_file import CertificatePaths
from gateway.listeners.certificates import CertificateStore


def certificates(configuration: Config, now: float) -> CertificateStore | None:
    """The certificates of ``[tls]``, None if there are none; ``now`` is in seconds since 1970.

    Raises ConfigurationError, and so does the store's ``reload``.
    """
    named = certificate_files(configuration.tls)
    if not named:
        return None
    return CertificateStore(
        [paths for paths, _, _ in named],
        now,
        lambda index: configuration.source.at("tls", *named[index][1]),
    )


def certificate_files(tls: Tls) -> list[tuple[CertificatePaths, KeyPath, KeyPath]]:
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
