"""Renewed certificate files: noticed here once for all workers, which then read them again."""

from __future__ import annotations

from collections.abc import Callable
from time import time
from typing import Final, final

from twisted.logger import Logger

from gateway.configuration.sections import Config
from gateway.listeners.certificates import CertificateStore
from gateway.workers.configured_files import certificates

_log = Logger()

# How often the files are checked for changes, with one stat of each.
RENEWAL_S: Final = 60.0


@final
class CertificateRenewal:
    """``tell`` has the workers read renewed files."""

    def __init__(self, tell: Callable[[], object]) -> None:
        self._tell = tell
        self._store: CertificateStore | None = None

    def watch(self, configuration: Config) -> None:
        """Watch this configuration's files. Raises ConfigurationError."""
        self._store = certificates(configuration, time())
        if self._store is not None:
            # They may have been renewed since the workers have read them.
            self._tell()

    def look(self) -> None:
        """Check the files. Must be called every ``RENEWAL_S``."""
        if self._store is None:
            return
        renewal = self._store.renew(time())
        if renewal.renewed:
            self._tell()
            _log.info("certificates renewed: {files}", files=", ".join(renewal.renewed))
        if renewal.faults:
            _log.warn(
                "renewed certificates cannot be used: {faults}; the old ones stay in use, and the files are"
                " read again every minute",
                faults="; ".join(renewal.faults),
            )
