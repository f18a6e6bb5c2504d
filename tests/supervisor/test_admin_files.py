"""Reading of the admin server's token and certificates."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import ConfigurationError
from gateway.supervisor.admin_files import read_authorities, read_token
from tests.helpers.certificate_makers import issue

TOKEN = "0123456789abcdef"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.touch(0o600)
    return path


def test_a_token_is_a_files_content_without_white_space(file: Path) -> None:
    file.write_text(f"\n {TOKEN}\n")
    assert read_token(file) == TOKEN.encode()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "at least 16 characters"),
        (TOKEN[:-1] + "\n", "at least 16 characters"),
        (f"{TOKEN} {TOKEN}", "one word of printable ASCII"),
        (TOKEN + "ü", "one word of printable ASCII"),
        ("x" * 2000, "this is no token"),
    ],
)
def test_an_invalid_token_is_refused(file: Path, content: str, problem: str) -> None:
    file.write_text(content)
    with pytest.raises(ConfigurationError, match=problem) as refused:
        read_token(file)
    assert str(refused.value).startswith(f"{file}: ")
    assert TOKEN not in str(refused.value)


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o602])
def test_a_token_that_everybody_can_read_is_none(file: Path, mode: int) -> None:
    file.write_text(TOKEN)
    file.chmod(mode)
    with pytest.raises(ConfigurationError, match="open to everybody"):
        read_token(file)


def test_a_missing_token_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        read_token(tmp_path / "none")


# --- Clients' authorities ---


def test_authorities_are_all_of_a_files_certificates_that_may_sign(file: Path) -> None:
    several = [issue(name, authority=True) for name in ("one", "two")]
    file.write_bytes(b"".join(each.pem for each in several))
    read = [each.original.to_cryptography() for each in read_authorities(file)]
    assert sorted(map(hash, read)) == sorted(hash(each.certificate) for each in several)


@pytest.mark.parametrize("content", [b"", b"nonsense", issue("one", authority=True).pem[:200]])
def test_a_file_without_a_certificate_is_explained(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(ConfigurationError) as refused:
        read_authorities(file)
    assert str(refused.value) == (
        f"{file}: no certificate that can be read in it; name a PEM file with the authorities'"
    )


def test_a_certificate_that_may_not_sign_is_not_an_authority(file: Path) -> None:
    file.write_bytes(issue("site").pem)
    with pytest.raises(ConfigurationError, match="no certificate of an authority in it"):
        read_authorities(file)


def test_a_missing_authorities_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="none: cannot be read: No such file"):
        read_authorities(tmp_path / "none")


def test_a_folder_has_no_authorities(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_authorities(tmp_path)
