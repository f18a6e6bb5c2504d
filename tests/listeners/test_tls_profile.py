from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme
from OpenSSL import SSL

from gateway.errors import ConfigurationError
from gateway.listeners.tls_profile import CIPHERS, GROUPS, server_context, set_groups
from tests.helpers.handshakes import handshake


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tls") / "site.pem"
    certificate = trustme.CA().issue_cert("a.example")
    path.write_bytes(certificate.private_key_and_cert_chain_pem.bytes())
    return str(path)


@pytest.fixture(scope="module")
def rsa_server(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """An ECDSA key needs a group of its own from a client of TLS 1.2; an RSA key needs none."""
    path = tmp_path_factory.mktemp("tls") / "rsa.pem"
    certificate = trustme.CA().issue_cert("a.example", key_type=trustme.KeyType.RSA)
    path.write_bytes(certificate.private_key_and_cert_chain_pem.bytes())
    return server_context(str(path))


@pytest.fixture(scope="module")
def server(pem: str) -> ssl.SSLContext:
    return server_context(pem)


def client_context(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("group", "taken"),
    [*((group, True) for group in GROUPS), ("X448", False), ("secp521r1", False)],
)
def test_exactly_the_groups_of_the_profile_are_accepted(
    rsa_server: ssl.SSLContext, version: ssl.TLSVersion, group: str, taken: bool
) -> None:
    client = client_context(version)
    assert set_groups(client, [group])
    if taken:
        handshake(rsa_server, client, None)
    else:
        with pytest.raises(ssl.SSLError, match=r"(?i)no.shared|no.suitable"):
            handshake(rsa_server, client, None)


def test_tls_1_2_has_exactly_the_profiles_ciphers(server: ssl.SSLContext) -> None:
    offered = [cipher["name"] for cipher in server.get_ciphers()]
    assert [name for name in offered if not name.startswith("TLS_")] == list(CIPHERS)
    assert {name for name in offered if name.startswith("TLS_")} == {
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
    }


def test_versions_older_than_tls_1_2_are_refused(server: ssl.SSLContext) -> None:
    assert server.minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    "first", ["ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"]
)
def test_the_order_of_the_client_determines_the_cipher(server: ssl.SSLContext, first: str) -> None:
    client = client_context(ssl.TLSVersion.TLSv1_2)
    client.set_ciphers(f"{first}:ECDHE-ECDSA-AES128-GCM-SHA256")
    chosen = handshake(server, client, None)[1].cipher()
    assert chosen is not None
    assert chosen[0] == first


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ([], None),
        (["http/1.1"], "http/1.1"),
        (["h2", "http/1.1"], "http/1.1"),
        (["h2"], None),
        (["rtmp"], None),
    ],
)
def test_a_client_may_offer_any_alpn_protocol_or_none(
    server: ssl.SSLContext, offered: list[str], chosen: str | None
) -> None:
    client = client_context()
    if offered:
        client.set_alpn_protocols(offered)
    ends = handshake(server, client, None)
    assert [end.selected_alpn_protocol() for end in ends] == [chosen, chosen]


def test_a_client_of_tls_1_2_that_closed_cleanly_may_resume_its_session(
    server: ssl.SSLContext,
) -> None:
    context = client_context(ssl.TLSVersion.TLSv1_2)
    client, end = handshake(server, context, None)
    end.write(b"x")
    assert client.read() == b"x"
    session = client.session
    for closing in (client, end, client):
        _step(closing.unwrap)
    assert session is not None
    assert handshake(server, context, None, session)[1].session_reused


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_no_session_tickets_are_sent(server: ssl.SSLContext, version: ssl.TLSVersion) -> None:
    """rtmpdump crashes if a TLS 1.3 ticket arrives before the first answer."""
    client, end = handshake(server, client_context(version), None)
    end.write(b"x")
    assert client.read() == b"x"
    assert client.session is None or not client.session.has_ticket


def test_tls_compression_is_disabled(server: ssl.SSLContext) -> None:
    assert server.options & ssl.OP_NO_COMPRESSION
    assert handshake(server, client_context(), None)[1].compression() is None


def test_a_client_cannot_renegotiate(server: ssl.SSLContext) -> None:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    client = SSL.Connection(context, None)
    client.set_connect_state()
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    end = server.wrap_bio(up, down, server_side=True)
    for _ in range(3):
        _step(client.do_handshake)
        up.write(_taken(client))
        _step(end.do_handshake)
        if down.pending:
            client.bio_write(down.read())
    assert client.renegotiate()
    _step(client.do_handshake)
    up.write(_taken(client))
    with pytest.raises(ssl.SSLWantReadError):
        end.read()
    client.bio_write(down.read())
    with pytest.raises(SSL.Error, match="no renegotiation"):
        client.do_handshake()


def _step(act: object) -> None:
    try:
        act()  # type: ignore[operator]
    except (ssl.SSLWantReadError, SSL.WantReadError):
        return


def _taken(client: SSL.Connection) -> bytes:
    try:
        return client.bio_read(65536)
    except SSL.WantReadError:
        return b""


def test_a_file_that_openssl_refuses_is_reported_in_one_line_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "site.pem"
    path.write_bytes(b"nothing")
    with pytest.raises(
        ConfigurationError, match=r"site\.pem: OpenSSL refuses it: .*; get a new one"
    ):
        server_context(str(path))
