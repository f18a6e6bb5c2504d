"""TLS to media servers: the keys and files of ``[[upstream]]``.

Errors have the key's place in the configuration. The files are read at the start, and again at each reload.
"""

from __future__ import annotations

import ssl

from gateway.configuration.sections import Config
from gateway.errors import ConfigurationError
from gateway.listeners.certificate_file import read_client_certificate
from gateway.upstreams.tls_client import ClientTLS, client_context, read_authorities


def client_tls(configuration: Config, index: int, now: float) -> ClientTLS | None:
    """TLS to the servers of the upstream with this index; None if none of them has "rtmps://".

    ``now`` is in seconds since 1970. Raises ConfigurationError.
    """
    upstream = configuration.upstreams[index]
    if not any(server.address.is_tls for server in upstream.servers):
        return None
    return ClientTLS(read_context(configuration, index, now), upstream.tls_server_name or "")


def read_context(configuration: Config, index: int, now: float) -> ssl.SSLContext:
    """The context by the files of the upstream with this index. Raises ConfigurationError."""
    upstream, source = configuration.upstreams[index], configuration.source
    authorities = b""
    if upstream.tls_authorities is not None:
        with source.at("upstream", index, "tls_authorities"):
            authorities = read_authorities(upstream.tls_authorities)
            _load(upstream.tls_authorities, authorities, "", upstream.tls_verify)
    with source.at("upstream", index, "tls_certificate"):
        certificate = upstream.tls_certificate or ""
        if certificate:
            read_client_certificate(certificate, now)
        return _load(certificate, authorities, certificate, upstream.tls_verify)


def _load(path: str, authorities: bytes, certificate: str, verify: bool) -> ssl.SSLContext:
    """``path``: of the file that has not been loaded before."""
    try:
        return client_context(authorities, certificate, verify)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: OpenSSL refuses it: {error}; get a new one") from None
