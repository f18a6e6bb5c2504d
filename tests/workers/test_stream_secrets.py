"""The file of secrets: what is a secret, and which files are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import ConfigurationError
from gateway.workers.stream_secrets import read_secrets

SECRET = "0123456789abcdef"


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    file = tmp_path / "secrets"
    file.write_text(SECRET)
    file.chmod(0o600)
    return file


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (SECRET, [SECRET]),
        (f"# a comment\n\n  {SECRET}  \r\n{SECRET}2\n", [SECRET, f"{SECRET}2"]),
    ],
)
def test_each_line_of_the_file_is_a_secret(
    secrets: Path, content: str, expected: list[str]
) -> None:
    secrets.write_text(content)
    assert [secret.decode() for secret in read_secrets(secrets)] == expected


@pytest.mark.parametrize(
    ("content", "mode", "cause"),
    [
        ("", 0o600, "expected 1 to 16 secrets"),
        ("# nothing", 0o600, "expected 1 to 16 secrets"),
        (f"{SECRET}\n" * 17, 0o600, "expected 1 to 16 secrets"),
        (SECRET + "x" * 20_000, 0o600, "expected 1 to 16 secrets"),
        ("short", 0o600, "at least 16 characters; make one with"),
        (SECRET, 0o604, "open to everybody"),
    ],
)
def test_a_bad_file_is_refused_with_its_cause(
    secrets: Path, content: str, mode: int, cause: str
) -> None:
    secrets.write_text(content)
    secrets.chmod(mode)
    with pytest.raises(ConfigurationError, match=cause):
        read_secrets(secrets)


def test_a_missing_file_is_refused_with_its_cause(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        read_secrets(tmp_path / "none")
