"""The gateway's certificates: which one a client gets, and how they are replaced.

Rules:

- A client's server name (SNI) chooses: a certificate with exactly this name, else one with a wildcard for
  its first label, else the first file. Of two with the same name, the one named first.
- Files are read when they are loaded and never during a handshake; a handshake looks up a dictionary.
- ``Certificates`` never change. New ones replace them as a whole, once all files have passed; otherwise the
  old ones stay. A connection keeps those that it began with.

Certificates come as ``ssl.SSLContext``: of the ways to do TLS, Python's own engine on memory buffers
(``SSLContext.wrap_bio``) measured best here. What makes a file good is in certificate_file.py, how TLS is
spoken in tls_profile.py.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import final

from attrs import frozen

from gateway.errors import ConfigurationError
from gateway.listeners.certificate_file import CertificateFile, read_certificate_file
from gateway.listeners.tls_profile import server_context

# Inside of it the file with this number is read; it may say more of what is wrong with the file.
Reading = Callable[[int], AbstractContextManager[None]]


@frozen
class Expiry:
    """For the metrics: when the first certificate of a file's chain ends, in seconds since 1970."""

    file: str
    names: tuple[str, ...]
    not_after_s: float


@frozen
class Certificates:
    """What was in the files at one time."""

    default: ssl.SSLContext
    by_name: Mapping[str, ssl.SSLContext]
    expiries: tuple[Expiry, ...]

    @classmethod
    def load(
        cls, paths: Sequence[str], now: float, reading: Reading = lambda _: nullcontext()
    ) -> Certificates:
        """Read, check and prepare at least one file; ``now`` in seconds since 1970.

        Raises ConfigurationError, with a line for each fault of each file.
        """
        passed = list(_passed(paths, now, reading))
        files = [file for file, _ in passed]
        loaded = cls(
            passed[0][1],
            _by_name(passed),
            tuple(Expiry(file.path, file.names, file.not_after_s) for file in files),
        )
        # Each handshake begins with the default context, and so asks only that one.
        loaded.default.sni_callback = loaded._choose
        return loaded

    def context_for(self, server_name: str | None) -> ssl.SSLContext:
        """The context for a client that named ``server_name``, or none."""
        name = (server_name or "").lower()
        exact = self.by_name.get(name)
        if exact is not None:
            return exact
        _, _, parent = name.partition(".")
        return self.by_name.get(f"*.{parent}", self.default)

    def _choose(
        self, connection: ssl.SSLObject, server_name: str | None, _: ssl.SSLContext
    ) -> None:
        """Called by ``ssl`` in each handshake, with None if the client names no server."""
        chosen = self.context_for(server_name)
        if chosen is not self.default:
            connection.context = chosen


@final
class CertificateStore:
    """The certificates in use."""

    def __init__(
        self, paths: Sequence[str], now: float, reading: Reading = lambda _: nullcontext()
    ) -> None:
        """Raises ConfigurationError as ``Certificates.load`` does."""
        self._paths = tuple(paths)
        self._reading = reading
        self.current = Certificates.load(self._paths, now, reading)

    @property
    def context(self) -> ssl.SSLContext:
        """What a new connection begins its handshake with; the client's server name does the rest."""
        return self.current.default

    def reload(self, now: float) -> None:
        """Read the files again. Raises ConfigurationError, and the old certificates stay in use."""
        self.current = Certificates.load(self._paths, now, self._reading)


def _passed(
    paths: Iterable[str], now: float, reading: Reading
) -> Iterator[tuple[CertificateFile, ssl.SSLContext]]:
    """The files, if none has a fault; else every fault of all."""
    faults = []
    for index, path in enumerate(paths):
        try:
            with reading(index):
                passed = read_certificate_file(path, now), server_context(path)
            yield passed
        except ConfigurationError as error:
            faults.append(str(error))
    if faults:
        raise ConfigurationError("\n".join(faults))


def _by_name(
    contexts: Iterable[tuple[CertificateFile, ssl.SSLContext]],
) -> dict[str, ssl.SSLContext]:
    named: dict[str, ssl.SSLContext] = {}
    for file, context in contexts:
        for name in file.names:
            named.setdefault(name.lower(), context)
    return named
