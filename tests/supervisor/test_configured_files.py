"""Checks of the files that a configuration names, and the lines that report their faults."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from gateway.configuration import loading
from gateway.configuration.sections import Config
from gateway.errors import ConfigurationError
from gateway.supervisor import configured_files
from tests.helpers.certificate_makers import DAY, MALFORMED, issue, malformed

NOW = datetime.now(UTC)
TOKEN = "0123456789abcdef"
NOBODY = 65534


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    """A valid certificate with its key, readable by its owner only."""
    path = tmp_path / "site.pem"
    path.touch(0o600)
    site = issue("site", names=["site.example"], start=NOW - DAY, end=NOW + DAY)
    path.write_bytes(site.pem + site.key_pem)
    return path


def configured(tables: str) -> Config:
    return _read('[[listener]]\naddress = "127.0.0.1:80"\n' + tables)


def secured(*paths: Path) -> Config:
    named = ", ".join(f'"{path}"' for path in paths)
    return _read(f'[[listener]]\naddress = "[::]:0"\ntls = true\n[tls]\ncertificates = [{named}]\n')


def _read(text: str) -> Config:
    return loading.from_document("FILE", tomllib.loads(text))


def faults(configuration: Config) -> list[str]:
    with pytest.raises(ConfigurationError) as refused:
        configured_files.check(configuration, NOW.timestamp())
    return str(refused.value).splitlines()


def test_valid_files_pass(tmp_path: Path, pem: Path) -> None:
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text(TOKEN)
    authorities = tmp_path / "authorities.pem"
    authorities.write_bytes(issue("operators", authority=True).pem)
    admin = f'[admin]\ntoken_file = "{token}"\ncertificate = "{pem}"\n'
    configuration = configured(
        f'{admin}client_authorities = "{authorities}"\n[log]\naccess = "{tmp_path}/access.log"\n'
    )
    configured_files.check(configuration, NOW.timestamp())
    assert list(configured_files.warnings(configuration)) == []


def test_every_fault_of_every_file_is_reported_with_its_place(tmp_path: Path) -> None:
    configuration = configured(
        f'tls = true\n[tls]\ncertificates = ["{tmp_path}/1", "{tmp_path}/2"]\n'
        f'[admin]\ntoken_file = "{tmp_path}/3"\ncertificate = "{tmp_path}/4"\n'
        f'client_authorities = "{tmp_path}/5"\n[log]\naccess = "{tmp_path}/none/6"\n'
    )
    places = [line.partition(" cannot be ")[0] for line in faults(configuration)]
    assert places == [
        f'FILE: [tls], key "certificates", item 1: {tmp_path}/1:',
        f'FILE: [tls], key "certificates", item 2: {tmp_path}/2:',
        f'FILE: [admin], key "token_file": {tmp_path}/3:',
        f'FILE: [admin], key "certificate": {tmp_path}/4:',
        f'FILE: [admin], key "client_authorities": {tmp_path}/5:',
        f'FILE: [log], key "access": {tmp_path}/none/6:',
    ]


def test_a_key_that_does_not_match_its_certificate_is_a_fault(pem: Path) -> None:
    pem.write_bytes(issue("site", start=NOW - DAY, end=NOW + DAY).pem + issue("other").key_pem)
    for configuration, place in (
        (secured(pem), '[tls], key "certificates", item 1'),
        (configured(f'[admin]\ncertificate = "{pem}"\n'), '[admin], key "certificate"'),
    ):
        (line,) = faults(configuration)
        assert line.startswith(f"FILE: {place}: {pem}: ")


def separate(chain: Path, key: Path) -> Config:
    return _read(
        '[[listener]]\naddress = "[::]:0"\ntls = true\n'
        f'[[tls.certificate]]\nchain = "{chain}"\nkey = "{key}"\n'
    )


@pytest.fixture
def key(tmp_path: Path, pem: Path) -> Path:
    """The key of ``pem`` in a separate file; ``pem`` then has the chain only."""
    path = tmp_path / "privkey.pem"
    path.touch(0o600)
    certificate, mark, rest = pem.read_text().partition("-----BEGIN PRIVATE KEY-----")
    path.write_text(mark + rest)
    pem.write_text(certificate)
    return path


def test_chain_and_key_in_separate_files_pass(pem: Path, key: Path) -> None:
    configured_files.check(separate(pem, key), NOW.timestamp())
    assert list(configured_files.warnings(separate(pem, key))) == []


def test_joined_and_separate_files_are_used_together(tmp_path: Path, pem: Path) -> None:
    joined = tmp_path / "joined.pem"
    joined.write_bytes(pem.read_bytes())
    configuration = _read(
        f'[[listener]]\naddress = "[::]:0"\ntls = true\n[tls]\ncertificates = ["{joined}"]\n'
        f'[[tls.certificate]]\nchain = "{pem}"\nkey = "{pem}"\n'
    )
    store = configured_files.certificates(configuration, NOW.timestamp())
    assert store is not None
    assert [each.file for each in store.current.expiries] == [str(joined), str(pem)]


def test_a_fault_of_chain_or_key_is_reported_with_its_place(
    tmp_path: Path, pem: Path, key: Path
) -> None:
    place = "FILE: [[tls.certificate]] 1: "
    (line,) = faults(separate(pem, tmp_path / "none"))
    assert line.startswith(f"{place}{tmp_path}/none: cannot be read: No such file")
    (line,) = faults(separate(tmp_path / "none", key))
    assert line.startswith(f"{place}{tmp_path}/none: cannot be read: No such file")
    key.write_bytes(issue("other").key_pem)
    (line,) = faults(separate(pem, key))
    assert line.startswith(f"{place}{pem} with the key {key}: its private key belongs to none")


def test_a_key_in_a_separate_file_must_not_be_readable_by_all(pem: Path, key: Path) -> None:
    pem.chmod(0o644)
    assert list(configured_files.warnings(separate(pem, key))) == []
    key.chmod(0o644)
    (line,) = configured_files.warnings(separate(pem, key))
    assert line.startswith(f'FILE: [[tls.certificate]] 1, key "key": {key}: its private key is')


@pytest.mark.parametrize("name", ["token_file", "certificate", "client_authorities"])
def test_a_fifo_is_refused_without_blocking(tmp_path: Path, pem: Path, name: str) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    certificate = f'certificate = "{pem}"\n' if name == "client_authorities" else ""
    (line,) = faults(configured(f'[admin]\n{certificate}{name} = "{fifo}"\n'))
    assert f'FILE: [admin], key "{name}": {fifo}: cannot be read: not a regular file' in line


def test_a_fault_at_reload_is_reported_with_its_place(pem: Path) -> None:
    store = configured_files.certificates(secured(pem), NOW.timestamp())
    assert store is not None
    pem.unlink()
    with pytest.raises(ConfigurationError, match=r'^FILE: \[tls\], key "certificates", item 1: /'):
        store.reload(NOW.timestamp())


# --- The access log ---


def logging_to(path: Path) -> Config:
    return configured(f'[log]\naccess = "{path}"\n')


def test_checking_an_access_log_does_not_create_it(tmp_path: Path) -> None:
    """The check may run as root, and the gateway as another user: the file would belong to root."""
    path = tmp_path / "access.log"
    configured_files.check(logging_to(path), 0.0)
    assert not path.exists()


def test_checking_an_access_log_does_not_change_it(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_text("lines\n")
    configured_files.check(logging_to(path), 0.0)
    assert path.read_text() == "lines\n"


def test_a_directory_as_access_log_is_refused(tmp_path: Path) -> None:
    (line,) = faults(logging_to(tmp_path))
    assert f"{tmp_path}: cannot be written: Is a directory; the directory must" in line


@pytest.fixture
def read_only_directory() -> Iterator[Path]:
    """A directory without write permission for this process, which is not root meanwhile."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(NOBODY)
        yield folder
        if is_root:
            os.seteuid(0)
        folder.chmod(0o755)


def test_an_access_log_without_write_permission_is_refused(
    read_only_directory: Path,
) -> None:
    (line,) = faults(logging_to(read_only_directory / "access.log"))
    assert (
        f"{read_only_directory}/access.log: cannot be written: Permission denied; the directory"
        in line
    )


# --- Warnings ---


def test_a_key_readable_by_all_users_is_a_warning(pem: Path) -> None:
    pem.chmod(0o644)
    for configuration, place in (
        (secured(pem), '[tls], key "certificates", item 1'),
        (configured(f'[admin]\ncertificate = "{pem}"\n'), '[admin], key "certificate"'),
    ):
        configured_files.check(configuration, NOW.timestamp())
        assert list(configured_files.warnings(configuration)) == [
            f"FILE: {place}: {pem}: its private key is readable by all users; chmod o-r it"
        ]


def test_a_key_readable_by_its_group_is_no_warning(pem: Path) -> None:
    pem.chmod(0o640)
    assert list(configured_files.warnings(secured(pem))) == []


# --- Media servers ---


def upstream(keys: str) -> Config:
    return configured(f'[[upstream]]\nservers = ["rtmps://media.example"]\n{keys}')


def test_valid_files_for_media_servers_pass_and_a_private_key_for_all_is_a_warning(
    tmp_path: Path, pem: Path
) -> None:
    client = issue("gateway", start=NOW - DAY, end=NOW + DAY, usage=None)
    pem.write_bytes(client.pem + client.key_pem)
    configuration = upstream(f'tls_authorities = "{pem}"\ntls_certificate = "{pem}"')
    configured_files.check(configuration, NOW.timestamp())
    assert list(configured_files.warnings(configuration)) == []
    pem.chmod(0o604)
    (line,) = configured_files.warnings(configuration)
    assert line.startswith(f'FILE: [[upstream]] 1, key "tls_certificate": {pem}: its private key')


def test_media_servers_that_are_not_verified_are_a_warning() -> None:
    configuration = upstream("tls_verify = false")
    configured_files.check(configuration, NOW.timestamp())
    (line,) = configured_files.warnings(configuration)
    assert line.startswith('FILE: [[upstream]] 1, key "tls_verify": false: other machines can')


@pytest.mark.parametrize(
    ("key", "content", "cause"),
    [
        ("tls_authorities", None, "cannot be read: No such file or directory; check the path"),
        ("tls_authorities", b"x", "no certificate that can be read in it; name a PEM file"),
        ("tls_certificate", None, "cannot be read: No such file or directory; check the path"),
        ("tls_certificate", b"x", "no certificate in it; name the PEM file"),
    ],
)
def test_a_fault_of_a_media_servers_file_is_reported_with_its_place(
    tmp_path: Path, key: str, content: bytes | None, cause: str
) -> None:
    path = tmp_path / "file.pem"
    if content is not None:
        path.write_bytes(content)
    (line,) = faults(upstream(f'{key} = "{path}"'))
    assert line.startswith(f'FILE: [[upstream]] 1, key "{key}": {path}: {cause}')


def refused(tables: str, key: str, path: Path) -> str:
    """The cause in the only line, for the file of the key at the end of the tables."""
    (line,) = faults(_read(f'[[listener]]\naddress = "[::]:0"\n{tables}\n{key} = "{path}"'))
    before, found, cause = line.partition(f'key "{key}": {path}: ')
    assert before.startswith("FILE: ")
    assert found
    return cause


@pytest.mark.parametrize("place", MALFORMED)
def test_a_malformed_certificate_is_reported_with_its_place(tmp_path: Path, place: str) -> None:
    path = tmp_path / "malformed.pem"
    path.write_bytes(malformed(place))
    media = '[[upstream]]\nservers = ["rtmps://media.example"]'
    for tables, key in (("[admin]", "certificate"), (media, "tls_certificate")):
        assert refused(tables, key, path).startswith("certificate 1 is damaged (")
    (line,) = faults(secured(path))
    start = f'FILE: [tls], key "certificates", item 1: {path}: certificate 1 is damaged ('
    assert line.startswith(start)


@pytest.mark.parametrize("place", ["version", "an extension twice", "name"])
def test_a_malformed_certificate_of_an_authority_is_reported_with_its_place(
    tmp_path: Path, pem: Path, place: str
) -> None:
    path = tmp_path / "malformed.pem"
    path.write_bytes(issue("good", authority=True).pem + malformed(place, authority=True))
    admin = f'[admin]\ncertificate = "{pem}"'
    assert refused(admin, "client_authorities", path).startswith("a certificate in it is damaged")
    if place != "an extension twice":
        # OpenSSL reads extensions later.
        media = '[[upstream]]\nservers = ["rtmps://media.example"]'
        assert refused(media, "tls_authorities", path)


@pytest.mark.parametrize("address", ["127.0.0.5", "::1"])
def test_a_source_address_of_this_machine_passes(address: str) -> None:
    tables = f'[[upstream]]\nservers = ["media"]\nsource_address = "{address}"'
    configured_files.check(configured(tables), NOW.timestamp())


@pytest.mark.parametrize("address", ["192.0.2.5", "2001:db8::5"])
def test_a_source_address_of_another_machine_is_a_fault(address: str) -> None:
    (line,) = faults(configured(f'[[upstream]]\nservers = ["media"]\nsource_address = "{address}"'))
    assert line == (
        f'FILE: [[upstream]] 1, key "source_address": "{address}": no address of this machine; name one'
        " that `ip address` lists"
    )


# --- RTMPE ---


def check_without_rc4(file: Path, rtmpe: str) -> subprocess.CompletedProcess[str]:
    """Check a configuration with an OpenSSL that has no legacy provider."""
    file.write_text(
        '[[listener]]\naddress = "127.0.0.1:0"\n'
        f'[[upstream]]\nservers = ["127.0.0.1"]\nrtmpe = "{rtmpe}"\n'
    )
    command = [sys.executable, "-c", "from gateway.command import main; main()", "check", str(file)]
    environment = {**os.environ, "CRYPTOGRAPHY_OPENSSL_NO_LEGACY": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_without_rc4_rtmpe_cannot_be_terminated(tmp_path: Path) -> None:
    run = check_without_rc4(tmp_path / "gateway.toml", "terminate")
    assert run.returncode == 1
    assert 'line 5: [[upstream]] 1, key "rtmpe": RTMPE requires RC4' in run.stderr


def test_opaque_rtmpe_does_not_require_rc4(tmp_path: Path) -> None:
    assert check_without_rc4(tmp_path / "gateway.toml", "opaque").returncode == 0


def test_rtmpe_can_be_terminated_with_rc4() -> None:
    upstream = '[[upstream]]\nservers = ["127.0.0.1"]\nrtmpe = "terminate"\n'
    configured_files.check(configured(upstream), NOW.timestamp())


def test_policy_files_that_cannot_be_used_are_reported_with_their_keys(tmp_path: Path) -> None:
    cross_domain, client_access = tmp_path / "crossdomain.xml", tmp_path / "access.xml"
    tables = f'[cross_domain]\ncrossdomain_file = "{cross_domain}"\n'
    place = 'FILE: [cross_domain], key "crossdomain_file": '
    (line,) = faults(configured(tables))
    assert line == f"{place}{cross_domain}: cannot be read: No such file or directory"
    cross_domain.write_text("<html/>")
    (line,) = faults(configured(tables))
    assert line.startswith(f"{place}{cross_domain}: its root element is <html>, not <cross-")
    cross_domain.write_text(f"<cross-domain-policy>{' ' * 65536}</cross-domain-policy>")
    (line,) = faults(configured(tables))
    assert line == f"{place}{cross_domain}: larger than 65536 bytes; use a shorter one"
    cross_domain.write_text("<cross-domain-policy/>")
    client_access.write_text("<access-policy/>")
    tables += f'clientaccesspolicy_file = "{client_access}"\n'
    configured_files.check(configured(tables), NOW.timestamp())
