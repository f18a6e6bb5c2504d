"""TLS between nodes: the files of ``[node]``.

Apart from ``nodes``, whose import of Twisted's endpoints removes systemd's variables (sd_listen_fds(3))
from the environment, where the supervisor needs them.
"""

from __future__ import annotations

from pathlib import Path
from time import time
from typing import Any, final

from gateway.configuration.sections import Config
from gateway.listeners.certificate_file import CertificateFile, read_certificate_file
from gateway.listeners.mutual_tls import client_options, read_authorities, server_options


@final
class NodeTls:
    """The certificate of this node, and the authorities of all. Raises ConfigurationError."""

    def __init__(self, configuration: Config) -> None:
        self._configuration = configuration
        self._certificate: CertificateFile
        self._authorities: list[Any]
        self.reload()

    def reload(self) -> None:
        """Read the files again. Raises ConfigurationError, after which the old ones stay in use."""
        node, source = self._configuration.node, self._configuration.source
        if node.certificate is None or node.authorities is None:
            raise RuntimeError("the configuration has been checked")
        with source.at("node", "certificate"):
            certificate = read_certificate_file(node.certificate, time())
        with source.at("node", "authorities"):
            authorities = read_authorities(Path(node.authorities))
        self._certificate, self._authorities = certificate, authorities

    def for_server(self) -> Any:
        return server_options(self._certificate, self._authorities)

    def for_client(self, host: str) -> Any:
        return client_options(self._certificate, self._authorities, host)
