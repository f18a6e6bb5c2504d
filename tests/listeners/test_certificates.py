from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme
from attrs import frozen

from gateway.errors import ConfigurationError
from gateway.listeners.certificates import Certificates, CertificateStore
from tests.listeners.certificate_makers import NOW_S
from tests.listeners.handshakes import handshake

LONG_AFTER_S = 40_000_000_000.0  # trustme's certificates end in the year 3000


@frozen
class Site:
    """A CA of our own, and a folder that it writes certificates into."""

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
        client, _ = handshake(certificates.default, context, server_name)
        certificate = client.getpeercert() or {}
        return {value for _, value in certificate["subjectAltName"]}


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
def test_the_server_name_chooses_exact_then_wildcard_then_first(
    site: Site, asked: str | None, shown: str
) -> None:
    paths = [
        site.write("1.pem", "first.example"),
        site.write("2.pem", "*.b.example"),
        site.write("3.pem", "www.b.example"),
        site.write("4.pem", "a.example"),
    ]
    certificates = Certificates.load(paths, NOW_S)
    assert site.shown_to(certificates, asked) == {shown}


def test_of_two_files_with_a_name_the_first_is_taken(site: Site) -> None:
    paths = [
        site.write("1.pem", "default.example"),
        site.write("2.pem", "a.example", "second.example"),
        site.write("3.pem", "a.example", "third.example"),
    ]
    certificates = Certificates.load(paths, NOW_S)
    assert certificates.context_for("a.example") is certificates.context_for("second.example")


def test_a_client_that_checks_gets_through(site: Site) -> None:
    paths = [site.write("1.pem", "first.example"), site.write("2.pem", "*.b.example")]
    certificates = Certificates.load(paths, NOW_S)
    client, server = handshake(certificates.default, site.client(), "tv.b.example")
    assert client.version() == server.version() == "TLSv1.3"


def test_expiries_are_told_per_file(site: Site) -> None:
    paths = [site.write("1.pem", "first.example"), site.write("2.pem", "*.b.example", "c.example")]
    expiries = Certificates.load(paths, NOW_S).expiries
    assert [(expiry.file, expiry.names) for expiry in expiries] == [
        (paths[0], ("first.example",)),
        (paths[1], ("*.b.example", "c.example")),
    ]
    assert all(expiry.not_after_s > NOW_S for expiry in expiries)


def test_every_fault_of_every_file_is_told_at_once(site: Site) -> None:
    paths = [
        str(site.folder / "missing.pem"),
        site.write("good.pem", "a.example"),
        str(site.folder / "gone.pem"),
    ]
    with pytest.raises(ConfigurationError) as caught:
        Certificates.load(paths, NOW_S)
    lines = str(caught.value).split("\n")
    assert [line.partition(": ")[0] for line in lines] == [paths[0], paths[2]]


def test_a_reload_replaces_them_and_leaves_running_connections_alone(site: Site) -> None:
    path = site.write("1.pem", "old.example")
    store = CertificateStore([path], NOW_S)
    old = store.context
    client, server = handshake(old, site.client(), "old.example")
    site.write("1.pem", "new.example")
    store.reload(NOW_S)
    assert store.context is not old
    assert site.shown_to(store.current, None) == {"new.example"}
    assert server.context is old
    assert client.getpeercert() is not None


@pytest.mark.parametrize("damage", ["truncated", "removed", "expired"])
def test_bad_new_files_leave_the_old_certificates_in_use(site: Site, damage: str) -> None:
    path = site.write("1.pem", "old.example")
    store = CertificateStore([path], NOW_S)
    before = store.current
    if damage == "truncated":
        Path(path).write_bytes(Path(path).read_bytes()[:300])
    elif damage == "removed":
        Path(path).unlink()
    with pytest.raises(ConfigurationError, match=path):
        store.reload(LONG_AFTER_S if damage == "expired" else NOW_S)
    assert store.current is before
    assert site.shown_to(store.current, None) == {"old.example"}


def test_no_handshake_reads_a_file(site: Site) -> None:
    path = site.write("1.pem", "a.example")
    certificates = Certificates.load([path], NOW_S)
    Path(path).unlink()
    assert site.shown_to(certificates, "a.example") == {"a.example"}
