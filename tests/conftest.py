"""Settings of the whole suite; a certificate authority, and a server's TLS context of it."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator

import pytest
import trustme
from hypothesis import settings

from gateway.listeners.tls_profile import server_context
from gateway.logs import debugging

# A busy machine is no fault of the code. In continuous integration the examples are the same each time,
# so that a change is judged by what it changed.
settings.register_profile("suite", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def _no_debugging() -> Iterator[None]:
    """Debug lines are enabled for the whole process; disable them after each test."""
    yield
    debugging.enabled = False


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@pytest.fixture(scope="module")
def context(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    path = tmp_path_factory.mktemp("tls") / "a.pem"
    issued = authority.issue_cert("a.example", key_type=trustme.KeyType.ECDSA)
    path.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
    return server_context(str(path))
