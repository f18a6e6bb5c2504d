"""The gateway's certificates: which one a client gets, and how they are replaced.

Rules:

- A client's server name (SNI) chooses: a certificate with exactly this name, else one with a wildcard for
  its first label, else the first file. Of two with the same name, the one named first.
- Files are read when they are loaded and never during a handshake; a handshake looks up a dictionary.
- ``Certificates`` never change. A reload replaces them as a whole, once all files have passed; otherwise
  the old ones stay. A connection keeps those that it began with.
- A renewal, which is due every minute, reads only certificates whose files have changed, and replaces each
  that passes. If one does not (a new chain beside the old key), the old one stays in use, its files are
  read again at the next renewal, and the other certificates are renewed without it.
- A server name that is not ASCII (a client may send any bytes) gets the first certificate. Python's ``ssl``
  would fail on it before it calls the callback, so such a handshake begins with a context that has none.

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
from gateway.listeners.certificate_file import (
    CertificateFile,
    CertificatePaths,
    Version,
    read_certificate,
)
from gateway.listeners.tls_profile import bare_context, server_context
from gateway.protocols.client_hello import server_name_of

# Inside of it the certificate with this number is read; it may say more of what is wrong with its files.
Reading = Callable[[int], AbstractContextManager[None]]


@frozen
class Expiry:
    """For the metrics: when the first certificate of a file's chain ends, in seconds since 1970."""

    file: str
    names: tuple[str, ...]
    not_after_s: float


@frozen
class Loaded:
    """One certificate in use, and the versions that its files had before they were read."""

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
    """What was in the files at one time."""

    loaded: tuple[Loaded, ...]
    by_name: Mapping[str, ssl.SSLContext]
    # What handshakes begin with: it has no certificate, and asks for one by the server name.
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
        """At least one certificate; the first is the default."""
        made = cls(loaded, _by_name(loaded), bare_context())
        made.front.sni_callback = made._choose
        return made

    @property
    def default(self) -> ssl.SSLContext:
        """The context for clients that name no server, or an unknown one."""
        return self.loaded[0].context

    @property
    def expiries(self) -> tuple[Expiry, ...]:
        """One for each certificate."""
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

    def context_for_hello(self, first: bytes) -> ssl.SSLContext:
        """What the handshake begins with whose ClientHello is in ``first``, if it is there as a whole."""
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
        """What a new connection begins its handshake with, by the first bytes of its client."""
        return self.current.context_for_hello(first)

    def reload(self, now: float) -> None:
        """Read all files again. Raises ConfigurationError, and the old certificates stay in use."""
        self.current = Certificates.load(self._paths, now, self._reading)
        self._reported.clear()

    def renew(self, now: float) -> Renewal:
        """Replace the certificates whose files have changed and pass. Reads no file that is unchanged."""
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
    """The certificates, if none has a fault; else every fault of all."""
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
