from __future__ import annotations

import ssl
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import trustme
from attrs import frozen

from gateway.errors import ConfigurationError
from gateway.listeners.certificate_file import CertificatePaths
from gateway.listeners.certificates import Certificates, CertificateStore, Renewal
from tests.helpers.certificate_makers import MALFORMED, NOW_S, malformed
from tests.helpers.handshakes import handshake

LONG_AFTER_S = 40_000_000_000.0  # trustme's certificates end in the year 3000


@frozen
class Site:
    """A test CA, and a folder that it writes certificates into."""

    ca: trustme.CA
    folder: Path

    def write(self, file: str, *names: str, common_name: str | None = None) -> str:
        pair = self.ca.issue_cert(*names, common_name=common_name)
        path = self.folder / file
        path.write_bytes(pair.private_key_and_cert_chain_pem.bytes() + self.ca.cert_pem.bytes())
        return str(path)

    def client(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        return context

    def shown_to(self, certificates: Certificates, server_name: str | None) -> set[str]:
        """The names in the certificate that a client gets in a handshake."""
        context = self.client()
        context.check_hostname = False
        client, _ = handshake(certificates.front, context, server_name)
        certificate = client.getpeercert() or {}
        return {value for _, value in certificate["subjectAltName"]}


def load(paths: list[str]) -> Certificates:
    return Certificates.load([CertificatePaths.joined(path) for path in paths], NOW_S)


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def site(ca: trustme.CA, tmp_path: Path) -> Site:
    return Site(ca, tmp_path)


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("a.example", "a.example"),
        ("A.Example", "a.example"),
        ("www.b.example", "www.b.example"),
        ("tv.b.example", "*.b.example"),
        ("a.tv.b.example", "first.example"),  # a wildcard stands for one label
        ("b.example", "first.example"),
        ("first.example", "first.example"),
        ("unknown.example", "first.example"),
        ("localhost", "first.example"),
        (None, "first.example"),
    ],
)
def test_the_server_name_selects_an_exact_match_then_a_wildcard_then_the_first_certificate(
    site: Site, asked: str | None, shown: str
) -> None:
    paths = [
        site.write("1.pem", "first.example"),
        site.write("2.pem", "*.b.example"),
        site.write("3.pem", "www.b.example"),
        site.write("4.pem", "a.example"),
    ]
    certificates = load(paths)
    assert site.shown_to(certificates, asked) == {shown}


def test_the_first_certificate_with_a_name_is_used(site: Site) -> None:
    paths = [
        site.write("1.pem", "default.example"),
        site.write("2.pem", "a.example", "second.example"),
        site.write("3.pem", "a.example", "third.example"),
    ]
    certificates = load(paths)
    assert certificates.context_for("a.example") is certificates.context_for("second.example")


def test_a_client_that_verifies_the_certificate_can_connect(site: Site) -> None:
    paths = [site.write("1.pem", "first.example"), site.write("2.pem", "*.b.example")]
    certificates = load(paths)
    client, server = handshake(certificates.front, site.client(), "tv.b.example")
    assert client.version() == server.version() == "TLSv1.3"


def test_expiries_are_reported_per_file(site: Site) -> None:
    paths = [site.write("1.pem", "first.example"), site.write("2.pem", "*.b.example", "c.example")]
    expiries = load(paths).expiries
    assert [(expiry.file, expiry.names) for expiry in expiries] == [
        (paths[0], ("first.example",)),
        (paths[1], ("*.b.example", "c.example")),
    ]
    assert all(expiry.not_after_s > NOW_S for expiry in expiries)


def test_all_faults_of_all_files_are_reported_together(site: Site) -> None:
    paths = [
        str(site.folder / "missing.pem"),
        site.write("good.pem", "a.example"),
        str(site.folder / "gone.pem"),
    ]
    with pytest.raises(ConfigurationError) as caught:
        load(paths)
    lines = str(caught.value).split("\n")
    assert [line.partition(": ")[0] for line in lines] == [paths[0], paths[2]]


def test_a_reload_replaces_the_certificates_and_keeps_existing_connections(site: Site) -> None:
    path = site.write("1.pem", "old.example")
    store = CertificateStore([CertificatePaths.joined(path)], NOW_S)
    old = store.current.default
    client, server = handshake(store.context(b""), site.client(), "old.example")
    site.write("1.pem", "new.example")
    store.reload(NOW_S)
    assert store.current.default is not old
    assert site.shown_to(store.current, None) == {"new.example"}
    assert server.context is old
    assert client.getpeercert() is not None


@pytest.mark.parametrize("damage", ["truncated", "removed", "expired"])
def test_bad_new_files_leave_the_old_certificates_in_use(site: Site, damage: str) -> None:
    path = site.write("1.pem", "old.example")
    store = CertificateStore([CertificatePaths.joined(path)], NOW_S)
    before = store.current
    if damage == "truncated":
        Path(path).write_bytes(Path(path).read_bytes()[:300])
    elif damage == "removed":
        Path(path).unlink()
    with pytest.raises(ConfigurationError, match=path):
        store.reload(LONG_AFTER_S if damage == "expired" else NOW_S)
    assert store.current is before
    assert site.shown_to(store.current, None) == {"old.example"}


def test_a_handshake_reads_no_file(site: Site) -> None:
    path = site.write("1.pem", "a.example")
    certificates = load([path])
    Path(path).unlink()
    assert site.shown_to(certificates, "a.example") == {"a.example"}


def test_tls_sessions_are_resumed_with_any_certificate(site: Site) -> None:
    certificates = load([site.write("1.pem", "first.example"), site.write("2.pem", "b.example")])
    client = site.client()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    for name in ("first.example", "b.example"):
        first, _ = handshake(certificates.front, client, name)
        again, _ = handshake(certificates.front, client, name, first.session)
        assert again.session_reused


# --- Server names that are none ---


class Ignored:
    """Exceptions that Python reports as ignored."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[object] = []
        monkeypatch.setattr(sys, "unraisablehook", self.seen.append)


def hello(site: Site, server_name: str) -> bytes:
    up = ssl.MemoryBIO()
    client = site.client().wrap_bio(ssl.MemoryBIO(), up, server_hostname=server_name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return up.read()


def answer(context: ssl.SSLContext, said: bytes) -> bytes:
    """The server's answer to a ClientHello; only an alert is shorter than ten bytes."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    up.write(said)
    server = context.wrap_bio(up, down, server_side=True)
    with suppress(ssl.SSLWantReadError):
        server.do_handshake()
    return down.read()


@pytest.mark.parametrize(
    "name", [b"\xff" * 60, b"\xff.example", "b\u00fccher.example".encode(), b"a..b", b"." * 9]
)
def test_an_invalid_server_name_gets_the_first_certificate(
    site: Site, name: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    ignored = Ignored(monkeypatch)
    store = CertificateStore([CertificatePaths.joined(site.write("1.pem", "a.example"))], NOW_S)
    said = hello(site, "x" * len(name)).replace(b"x" * len(name), name)
    assert name in said
    assert len(answer(store.context(said), said)) > 500
    assert ignored.seen == []


# --- Renewal ---


@frozen
class Pair:
    """Chain and key in files of their own, as ACME clients keep them: links to numbered files."""

    site: Site
    folder: Path

    @property
    def paths(self) -> CertificatePaths:
        return CertificatePaths(
            str(self.folder / "fullchain.pem"), str(self.folder / "privkey.pem")
        )

    def renew(self, name: str, chain: bool = True, key: bool = True) -> None:
        """Write a new certificate beside the others, and have the links point to it."""
        pair = self.site.ca.issue_cert(name)
        chains = b"".join(each.bytes() for each in pair.cert_chain_pems)
        files = {}
        if chain:
            files["fullchain"] = chains + self.site.ca.cert_pem.bytes()
        if key:
            files["privkey"] = pair.private_key_pem.bytes()
        for file, content in files.items():
            archived = self.folder / f"{file}-{name}.pem"
            archived.write_bytes(content)
            link = self.folder / f"{file}.pem"
            link.unlink(missing_ok=True)
            link.symlink_to(archived.name)


@pytest.fixture
def pair(site: Site, tmp_path: Path) -> Pair:
    folder = tmp_path / "live"
    folder.mkdir()
    made = Pair(site, folder)
    made.renew("old.example")
    return made


def test_unchanged_certificate_files_are_not_read_again(pair: Pair) -> None:
    store = CertificateStore([pair.paths], NOW_S)
    before = store.current
    # At this time, they would be refused as expired.
    assert store.renew(LONG_AFTER_S) == Renewal()
    assert store.current is before


def test_renewed_files_are_loaded_and_existing_connections_continue(pair: Pair) -> None:
    store = CertificateStore([pair.paths], NOW_S)
    client, server = handshake(store.context(b""), pair.site.client(), "old.example")
    pair.renew("new.example")
    assert store.renew(NOW_S) == Renewal((pair.paths.chain,))
    assert pair.site.shown_to(store.current, "new.example") == {"new.example"}
    assert server.context is not store.current.default
    assert server.write(b"still here") == 10
    assert client.version() == "TLSv1.3"
    assert store.renew(NOW_S) == Renewal()


def test_a_file_with_chain_and_key_that_is_rewritten_in_place_is_loaded(site: Site) -> None:
    path = site.write("1.pem", "old.example")
    store = CertificateStore([CertificatePaths.joined(path)], NOW_S)
    site.write("1.pem", "new.example")
    assert store.renew(NOW_S).renewed == (path,)
    assert site.shown_to(store.current, None) == {"new.example"}


@pytest.mark.parametrize("first", ["chain", "key"])
def test_half_renewed_files_keep_the_old_certificate_with_one_warning(
    pair: Pair, first: str
) -> None:
    store = CertificateStore([pair.paths], NOW_S)
    pair.renew("half.example", chain=first == "chain", key=first == "key")
    (fault,) = store.renew(NOW_S).faults
    assert "its private key belongs to none of its certificates" in fault
    assert [store.renew(NOW_S) for _ in range(3)] == [Renewal()] * 3
    assert pair.site.shown_to(store.current, None) == {"old.example"}
    pair.renew("new.example")
    assert store.renew(NOW_S).renewed == (pair.paths.chain,)
    assert pair.site.shown_to(store.current, None) == {"new.example"}


def test_each_new_state_of_files_that_do_not_match_is_a_new_warning(pair: Pair) -> None:
    store = CertificateStore([pair.paths], NOW_S)
    for name in ("one.example", "two.example"):
        pair.renew(name, key=False)
        assert len(store.renew(NOW_S).faults) == 1
        assert store.renew(NOW_S).faults == ()


def test_restored_old_files_are_not_a_renewal_and_later_faults_are_reported(pair: Pair) -> None:
    store = CertificateStore([pair.paths], NOW_S)
    link = Path(pair.paths.chain)
    target = link.readlink()
    for _ in range(2):
        link.unlink()
        assert len(store.renew(NOW_S).faults) == 1
        link.symlink_to(target)
        assert store.renew(NOW_S) == Renewal()


@pytest.mark.parametrize("place", MALFORMED)
def test_a_renewed_certificate_that_is_malformed_does_not_prevent_the_renewal_of_others(
    site: Site, place: str
) -> None:
    first, other = site.write("first.pem", "old.example"), site.write("other.pem", "other.example")
    store = CertificateStore(list(map(CertificatePaths.joined, (first, other))), NOW_S)
    Path(first).write_bytes(malformed(place))
    site.write("other.pem", "renewed.example")
    renewal = store.renew(NOW_S)
    assert renewal.renewed == (other,)
    (fault,) = renewal.faults
    assert fault.startswith(f"{first}: certificate 1 is damaged (")
    assert store.renew(NOW_S) == Renewal()
    with pytest.raises(ConfigurationError, match="certificate 1 is damaged"):
        store.reload(NOW_S)
    assert site.shown_to(store.current, None) == {"old.example"}


def test_a_certificate_that_cannot_be_renewed_does_not_prevent_the_renewal_of_others(
    site: Site, pair: Pair
) -> None:
    other = site.write("other.pem", "other.example")
    store = CertificateStore([pair.paths, CertificatePaths.joined(other)], NOW_S)
    Path(pair.paths.key).unlink()
    site.write("other.pem", "renewed.example")
    renewal = store.renew(NOW_S)
    assert renewal.renewed == (other,)
    assert len(renewal.faults) == 1
    assert site.shown_to(store.current, "renewed.example") == {"renewed.example"}
    assert site.shown_to(store.current, None) == {"old.example"}
