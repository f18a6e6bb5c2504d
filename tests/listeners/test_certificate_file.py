from __future__ import annotations

import os
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from gateway.errors import ConfigurationError
from gateway.listeners.certificate_file import (
    CertificateFile,
    CertificatePaths,
    read_certificate,
    read_certificate_file,
    read_client_certificate,
)
from tests.helpers.certificate_makers import (
    DAY,
    MALFORMED,
    NOW,
    NOW_S,
    Identity,
    issue,
    key_pem,
    malformed,
)

ROOT = issue("Root", authority=True, end=NOW + 3000 * DAY)
MIDDLE = issue("Middle", ROOT, authority=True, end=NOW + 20 * DAY)
LOWER = issue("Lower", MIDDLE, authority=True, end=NOW + 300 * DAY)
SITE = issue("Site", MIDDLE, names=["live.example", "*.live.example"])
DEEP = issue("Deep", LOWER, names=["deep.example"])
OTHER = issue("Other")
STRAIGHT = issue("Straight", ROOT, names=["straight.example"])
WEAK_KEY = rsa.generate_private_key(65537, 1024)


@pytest.fixture(autouse=True)
def _trusted_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ROOT is the only root that this machine trusts."""
    roots = tmp_path / "roots.pem"
    roots.write_bytes(ROOT.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(roots))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))


def read(tmp_path: Path, *blocks: bytes, now: float = NOW_S) -> CertificateFile:
    path = tmp_path / "site.pem"
    path.write_bytes(b"".join(blocks))
    return read_certificate_file(str(path), now)


def faults(tmp_path: Path, *blocks: bytes, now: float = NOW_S) -> list[str]:
    """The reported faults of the file, without the file name that begins each line."""
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, *blocks, now=now)
    start = f"{tmp_path / 'site.pem'}: "
    lines = str(caught.value).split("\n")
    assert [line[: len(start)] for line in lines] == [start] * len(lines)
    return [line.removeprefix(start) for line in lines]


@pytest.mark.parametrize(
    "blocks",
    [
        (SITE.pem, MIDDLE.pem, SITE.key_pem),
        (SITE.key_pem, SITE.pem, MIDDLE.pem),
        (SITE.pem, SITE.key_pem, MIDDLE.pem),
        (SITE.pem, MIDDLE.pem, ROOT.pem, SITE.key_pem),
        (DEEP.pem, LOWER.pem, MIDDLE.pem, DEEP.key_pem),
        (STRAIGHT.pem, STRAIGHT.key_pem),
        (OTHER.pem, OTHER.key_pem),
        (b"# a comment\r\n", SITE.pem.replace(b"\n", b"\r\n"), MIDDLE.pem, SITE.key_pem),
        (SITE.pem, MIDDLE.pem, key_pem(SITE.key, traditional=True)),
    ],
    ids=[
        "key last",
        "key first",
        "key between",
        "with its root",
        "two intermediates",
        "issued by a trusted root",
        "self-signed",
        "comments and CRLF",
        "older key format",
    ],
)
def test_a_complete_chain_with_its_key_is_valid(tmp_path: Path, blocks: tuple[bytes, ...]) -> None:
    file = read(tmp_path, *blocks)
    assert file.key.public_key() == file.chain[0].public_key()


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=["P-384", "RSA 2048"],
)
def test_other_key_types_of_the_profile_are_valid(tmp_path: Path, key: object) -> None:
    site = issue("Site", ROOT, key=key)
    read(tmp_path, site.pem, site.key_pem)


def test_certificates_of_trustme_are_valid_with_their_root(tmp_path: Path) -> None:
    ca = trustme.CA()
    pair = ca.issue_cert("live.example").private_key_and_cert_chain_pem.bytes()
    now = NOW_S  # trustme's hold from 2000 to 3000
    assert read(tmp_path, pair, ca.cert_pem.bytes(), now=now).names == ("live.example",)


def test_the_names_and_the_earliest_expiry_are_read(tmp_path: Path) -> None:
    file = read(tmp_path, SITE.pem, MIDDLE.pem, SITE.key_pem)
    assert file.names == ("live.example", "*.live.example")
    assert file.not_after_s == (NOW + 20 * DAY).timestamp()


def test_the_common_name_is_used_if_there_are_no_alternative_names(tmp_path: Path) -> None:
    assert read(tmp_path, OTHER.pem, OTHER.key_pem).names == ("Other",)


def test_a_missing_file_is_named_in_the_error(tmp_path: Path) -> None:
    path = tmp_path / "missing.pem"
    with pytest.raises(ConfigurationError, match=r"missing\.pem: cannot be read: No such file"):
        read_certificate_file(str(path), NOW_S)


def test_a_folder_is_refused_as_a_certificate_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
        read_certificate_file(str(tmp_path), NOW_S)


def test_a_device_is_refused_as_a_certificate_file() -> None:
    with pytest.raises(ConfigurationError, match="/dev/zero: cannot be read: not a regular file"):
        read_certificate_file("/dev/zero", NOW_S)


def test_a_file_over_the_size_limit_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "large.pem"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ConfigurationError, match=r"large\.pem: over 262144 bytes"):
        read_certificate_file(str(path), NOW_S)


@pytest.mark.parametrize("place", ["chain", "key"])
def test_a_fifo_is_refused_and_does_not_block(tmp_path: Path, place: str) -> None:
    paths = {"chain": tmp_path / "chain.pem", "key": tmp_path / "key.pem"}
    paths["chain"].write_bytes(CHAIN)
    paths["key"].write_bytes(SITE.key_pem)
    paths[place].unlink()
    os.mkfifo(paths[place])
    with pytest.raises(
        ConfigurationError, match=rf"{place}\.pem: cannot be read: not a regular file"
    ):
        read_certificate(CertificatePaths(str(paths["chain"]), str(paths["key"])), NOW_S)


# --- Chain and key in files of their own ---


def read_apart(folder: Path, chain: bytes, key: bytes) -> CertificateFile:
    (folder / "chain.pem").write_bytes(chain)
    (folder / "key.pem").write_bytes(key)
    paths = CertificatePaths(str(folder / "chain.pem"), str(folder / "key.pem"))
    return read_certificate(paths, NOW_S)


def test_chain_and_key_may_be_in_two_files(tmp_path: Path) -> None:
    file = read_apart(tmp_path, CHAIN + ROOT.pem, SITE.key_pem)
    assert file.chain[0] == SITE.certificate
    assert file.key.public_key() == SITE.key.public_key()


def test_a_key_that_does_not_match_the_chain_is_reported_with_both_files(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"chain\.pem with the key .*key\.pem: its private key belongs to none",
    ):
        read_apart(tmp_path, CHAIN + ROOT.pem, OTHER.key_pem)


def test_a_key_file_without_a_key_is_reported_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"/key\.pem: no private keys in it"):
        read_apart(tmp_path, CHAIN + ROOT.pem + SITE.key_pem, b"")


def test_a_chain_file_without_a_certificate_is_reported_by_name(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"chain\.pem: no certificate in it; .* the chain$"
    ):
        read_apart(tmp_path, b"", SITE.key_pem)


DAMAGED = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
DAMAGED_KEY = b"-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n"
CHAIN = SITE.pem + MIDDLE.pem
OF_A_CLIENT = issue("Client", ROOT, usage=ExtendedKeyUsageOID.CLIENT_AUTH)
WEAK = issue("Weak", ROOT, key=WEAK_KEY)
ODD = issue("Odd", ROOT, key=ec.generate_private_key(ec.SECP521R1()))
ED = issue("Ed", ROOT, key=ed25519.Ed25519PrivateKey.generate())
IMPOSTOR = issue("Middle", authority=True)

FAULTY = {
    "empty": ((b"",), "no certificate in it; name the PEM file"),
    "DER": ((SITE.certificate.tbs_certificate_bytes,), "no certificate in it"),
    "key alone": ((SITE.key_pem,), "no certificate in it"),
    "no key": ((CHAIN,), "no private keys in it; it takes the one of"),
    "two keys": ((CHAIN, SITE.key_pem, OTHER.key_pem), "2 private keys in it; it takes the one"),
    "another's key": ((CHAIN, OTHER.key_pem), "its private key belongs to none of its certificate"),
    "encrypted key": ((CHAIN, key_pem(SITE.key, b"secret")), "its private key is encrypted; store"),
    "encrypted older key": (
        (CHAIN, key_pem(SITE.key, b"secret", traditional=True)),
        "its private key is encrypted; store",
    ),
    "damaged key": ((CHAIN, DAMAGED_KEY), "its private key is damaged"),
    "damaged certificate": ((SITE.pem, DAMAGED, SITE.key_pem), "certificate 2 is damaged"),
    "weak RSA key": ((WEAK.pem, WEAK.key_pem), "its key is too weak, or of a kind that clients"),
    "P-521": ((ODD.pem, ODD.key_pem), "its key is too weak, or of a kind that clients"),
    "Ed25519": ((ED.pem, ED.key_pem), "its key is too weak, or of a kind that clients"),
    "a client's": (
        (OF_A_CLIENT.pem, OF_A_CLIENT.key_pem),
        "its first certificate is not for servers; put the site's own first",
    ),
    "no intermediate": (
        (SITE.pem, SITE.key_pem),
        'its chain is not complete: it ends at "live.example", and "CN=Middle" is no root that',
    ),
    "one intermediate of two": (
        (DEEP.pem, LOWER.pem, DEEP.key_pem),
        'its chain is not complete: it ends at "CN=Lower", and "CN=Middle" is no root that',
    ),
    "a gap": (
        (DEEP.pem, MIDDLE.pem, DEEP.key_pem),
        'certificate 2 did not issue the one before it; put the certificate of "CN=Lower" there',
    ),
    "wrong order": (
        (DEEP.pem, MIDDLE.pem, LOWER.pem, MIDDLE.pem, DEEP.key_pem),
        "certificate 2 did not issue the one before it; sort the chain: the site's own first",
    ),
    "an issuer of the same name": (
        (SITE.pem, IMPOSTOR.pem, SITE.key_pem),
        'certificate 2 did not issue the one before it; put the certificate of "CN=Middle" there',
    ),
}


@pytest.mark.parametrize(("blocks", "said"), list(FAULTY.values()), ids=list(FAULTY))
def test_a_fault_is_reported_with_its_remedy(
    tmp_path: Path, blocks: tuple[bytes, ...], said: str
) -> None:
    lines = faults(tmp_path, *blocks)
    assert [line[: len(said)] for line in lines] == [said]
    assert "; " in lines[0]


@pytest.mark.parametrize("place", MALFORMED)
def test_a_malformed_certificate_is_reported_with_a_cause(tmp_path: Path, place: str) -> None:
    (line,) = faults(tmp_path, malformed(place))
    assert line.startswith('certificate 1 is damaged ("')
    assert line.endswith('"); get a new copy of it')
    (line,) = faults(tmp_path, CHAIN, malformed(place).partition(b"-----BEGIN P")[0], SITE.key_pem)
    assert line.startswith('certificate 3 is damaged ("')


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (NOW + 31 * DAY, '"live.example" expired on 2026-07-01 00:00 UTC; renew it'),
        (
            NOW - 2 * DAY,
            '"live.example" begins on 2026-05-31 00:00 UTC; wait, or correct the clock',
        ),
    ],
)
def test_a_certificate_outside_its_validity_period_is_refused(
    tmp_path: Path, now: object, said: str
) -> None:
    site = issue("Site", ROOT, names=["live.example"])
    lines = faults(tmp_path, site.pem, site.key_pem, now=now.timestamp())  # type: ignore[attr-defined]
    assert [line[: len(said)] for line in lines] == [said]


def test_an_expired_intermediate_certificate_is_refused(tmp_path: Path) -> None:
    now = (NOW + 25 * DAY).timestamp()
    assert faults(tmp_path, CHAIN, SITE.key_pem, now=now) == [
        '"CN=Middle" expired on 2026-06-21 00:00 UTC; renew it'
    ]


def test_all_faults_of_a_file_are_reported_together(tmp_path: Path) -> None:
    now = (NOW + 31 * DAY).timestamp()
    assert len(faults(tmp_path, SITE.pem, OTHER.key_pem, now=now)) == 3


def test_a_wrong_order_of_certificates_is_reported(tmp_path: Path) -> None:
    lines = faults(tmp_path, MIDDLE.pem, SITE.pem, SITE.key_pem)
    assert "its private key belongs to certificate 2; put that one first" in lines


def test_a_name_with_control_characters_is_reported_in_one_line(tmp_path: Path) -> None:
    nasty = issue("Evil\nline two", MIDDLE)
    assert len(faults(tmp_path, nasty.pem, nasty.key_pem)) == 1


# --- The gateway's certificate as a client ---

CLIENT = issue("Client", MIDDLE, usage=ExtendedKeyUsageOID.CLIENT_AUTH)


@pytest.mark.parametrize(
    "identity",
    [
        CLIENT,
        issue("Any", MIDDLE, usage=None),
        issue("Edwards", MIDDLE, key=ed25519.Ed25519PrivateKey.generate(), usage=None),
    ],
    ids=["for clients", "for all uses", "of a kind that the servers have to know"],
)
def test_a_clients_certificate_needs_no_issuers_and_no_profile(
    tmp_path: Path, identity: Identity
) -> None:
    path = tmp_path / "client.pem"
    path.write_bytes(identity.pem + identity.key_pem)
    assert read_client_certificate(str(path), NOW_S).chain == (identity.certificate,)


@pytest.mark.parametrize(
    ("blocks", "now", "fault"),
    [
        ((SITE.pem, SITE.key_pem), NOW_S, "its first certificate is not for clients; put the"),
        ((CLIENT.pem, SITE.key_pem), NOW_S, "its private key belongs to none of its certificates"),
        ((CLIENT.pem, CLIENT.key_pem), NOW_S + 90 * DAY.total_seconds(), '"CN=Client" expired on'),
        ((CLIENT.pem,), NOW_S, "no private keys in it; it takes"),
    ],
)
def test_a_fault_of_a_clients_certificate_is_reported(
    tmp_path: Path, blocks: tuple[bytes, ...], now: float, fault: str
) -> None:
    path = tmp_path / "client.pem"
    path.write_bytes(b"".join(blocks))
    with pytest.raises(ConfigurationError) as caught:
        read_client_certificate(str(path), now)
    assert str(caught.value).startswith(f"{path}: {fault}")
