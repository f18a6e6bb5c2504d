"""The certificates of the listeners: selection by server name, reload and renewal.

Rules:

- A client's server name (SNI) selects a certificate with this name, else one with a wildcard for its first
  label, else the first one. Of two with the same name, the first one is used.
- No file is read during a handshake, which uses a dictionary.
- ``Certificates`` are immutable. A reload replaces them if all files are valid; otherwise the old ones stay
  in use. Existing connections keep their certificates.
- A renewal, every minute, reads only certificates whose files have changed, and replaces each that is
  valid. If one is not (a new chain with the old key), the old one stays in use, its files are read again at
  the next renewal, and the other certificates are renewed.
- A server name that is not ASCII (a client may send any bytes) gets the first certificate. Python's ``ssl``
  would fail on it before it calls the callback, so such a handshake begins with a context that has none.

Certificates are used as ``ssl.SSLContext``, because Python's ``ssl`` on memory buffers is the fastest
option measured. certificate_file.py checks the files, and tls_profile.py configures TLS.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import final

from attrs import frozen

from gateway.errors import ConfigurationError
from gateway.listeners.certificate_file import (
    CertificateFile,
    CertificatePaths,
    Version,
    read_certificate,
)
from gateway.listeners.tls_profile import bare_context, server_context
from gateway.protocols.client_hello import server_name_of
from gateway.tls import ServerConnection

# A context manager for reading the certificate with this number, which may add to its errors.
Reading = Callable[[int], AbstractContextManager[None]]


@frozen
class Expiry:
    """The earliest expiry time in a file's chain, in seconds since 1970, for the metrics."""

    file: str
    names: tuple[str, ...]
    not_after_s: float


@frozen
class Loaded:
    """A certificate in use, and the versions of its files when they were read."""

    file: CertificateFile
    context: ssl.SSLContext
    versions: tuple[Version | None, ...]

    @classmethod
    def read(cls, paths: CertificatePaths, now: float) -> Loaded:
        """Read, check and prepare. Raises ConfigurationError, with a line for each fault."""
        versions = paths.versions()
        file = read_certificate(paths, now)
        context = server_context(paths.chain, None if paths.is_joined else paths.key)
        return cls(file, context, versions)


@frozen
class Renewal:
    """The result of a renewal: certificates replaced, and faults of changed files not reported before."""

    renewed: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


@frozen
class Certificates:
    """An immutable set of certificates."""

    loaded: tuple[Loaded, ...]
    by_name: Mapping[str, ssl.SSLContext]
    # The context that handshakes begin with. Its callback selects a certificate by the server name.
    front: ssl.SSLContext

    @classmethod
    def load(
        cls,
        paths: Sequence[CertificatePaths],
        now: float,
        reading: Reading = lambda _: nullcontext(),
    ) -> Certificates:
        """Read, check and prepare at least one certificate; ``now`` in seconds since 1970.

        Raises ConfigurationError, with a line for each fault of each file.
        """
        return cls.of(tuple(_passed(paths, now, reading)))

    @classmethod
    def of(cls, loaded: tuple[Loaded, ...]) -> Certificates:
        """Create a set of at least one certificate; the first is the default."""
        made = cls(loaded, _by_name(loaded), bare_context())
        made.front.sni_callback = made._choose
        return made

    @property
    def default(self) -> ssl.SSLContext:
        """The context for clients that name no server, or an unknown one."""
        return self.loaded[0].context

    @property
    def expiries(self) -> tuple[Expiry, ...]:
        """The expiry times of all certificates."""
        files = (each.file for each in self.loaded)
        return tuple(Expiry(file.paths.chain, file.names, file.not_after_s) for file in files)

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
        connection.context = self.context_for(server_name)
        if isinstance(connection, ServerConnection):
            connection.server_name = server_name or ""

    def context_for_hello(self, first: bytes) -> ssl.SSLContext:
        """The context for a handshake. ``first``: the first bytes, with the ClientHello if it is
        complete."""
        name = server_name_of(first)
        return self.front if name is None or name.isascii() else self.default


@final
class CertificateStore:
    """The certificates in use."""

    def __init__(
        self,
        paths: Sequence[CertificatePaths],
        now: float,
        reading: Reading = lambda _: nullcontext(),
    ) -> None:
        """Raises ConfigurationError as ``Certificates.load`` does."""
        self._paths = tuple(paths)
        self._reading = reading
        # By certificate: the versions of the files whose faults were reported.
        self._reported: dict[int, tuple[Version | None, ...]] = {}
        self.current = Certificates.load(self._paths, now, reading)

    def context(self, first: bytes) -> ssl.SSLContext:
        """The context for a new connection's handshake, by the first bytes of its client."""
        return self.current.context_for_hello(first)

    def reload(self, now: float) -> None:
        """Read all files again. Raises ConfigurationError, and the old certificates stay in use."""
        self.current = Certificates.load(self._paths, now, self._reading)
        self._reported.clear()

    def renew(self, now: float) -> Renewal:
        """Replace the certificates whose files have changed and are valid. Reads no other files."""
        loaded, renewed, faults = list(self.current.loaded), [], []
        for index, old in enumerate(self.current.loaded):
            paths = self._paths[index]
            versions = paths.versions()
            if versions == old.versions:
                self._reported.pop(index, None)
                continue
            try:
                with self._reading(index):
                    loaded[index] = Loaded.read(paths, now)
            except ConfigurationError as error:
                if self._reported.get(index) != versions:
                    faults += str(error).splitlines()
                self._reported[index] = versions
            else:
                self._reported.pop(index, None)
                renewed.append(paths.chain)
        if renewed:
            self.current = Certificates.of(tuple(loaded))
        return Renewal(tuple(renewed), tuple(faults))


def _passed(paths: Iterable[CertificatePaths], now: float, reading: Reading) -> Iterator[Loaded]:
    """The certificates if all are valid. Raises ConfigurationError with all faults."""
    faults = []
    for index, each in enumerate(paths):
        try:
            with reading(index):
                passed = Loaded.read(each, now)
            yield passed
        except ConfigurationError as error:
            faults.append(str(error))
    if faults:
        raise ConfigurationError("\n".join(faults))


def _by_name(loaded: Iterable[Loaded]) -> dict[str, ssl.SSLContext]:
    named: dict[str, ssl.SSLContext] = {}
    for each in loaded:
        for name in each.file.names:
            named.setdefault(name.lower(), each.context)
    return named
