"""A certificate authority, and a server's TLS context with a certificate of it."""

from __future__ import annotations

import ssl

import pytest
import trustme

from gateway.listeners.tls_profile import server_context


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@pytest.fixture(scope="module")
def context(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    path = tmp_path_factory.mktemp("tls") / "a.pem"
    issued = authority.issue_cert("a.example", key_type=trustme.KeyType.ECDSA)
    path.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
    return server_context(str(path))
