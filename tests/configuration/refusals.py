"""Configurations loaded from text, and the lines that refuse them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.configuration import loading
from gateway.configuration.sections import Config
from gateway.errors import ConfigurationError

# The shortest valid configuration.
LISTENER = '[[listener]]\naddress = "127.0.0.1:80"\n'


def load(file: Path, text: str | bytes) -> Config:
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return loading.from_file(file)


def refusal(file: Path, text: str | bytes) -> str:
    with pytest.raises(ConfigurationError) as refused:
        load(file, text)
    return str(refused.value)


def problems(file: Path, text: str | bytes) -> list[str]:
    """The lines of the refusal, without file name (which each must begin with) and line number."""
    lines = refusal(file, text).split("\n")
    assert all(line.startswith(f"{file}: ") for line in lines)
    return [re.sub(r"^line \d+: ", "", line.removeprefix(f"{file}: ")) for line in lines]
