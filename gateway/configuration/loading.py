"""Loading of a configuration: from a TOML file, or from the command line's options.

All problems are found before ConfigurationError is raised; each has its own line in the message
(problems.py). A configuration that is returned is complete and consistent, but its ports, files and host
names have not been tried.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from gateway.configuration.checks import check
from gateway.configuration.key_lines import KeyLines
from gateway.configuration.problems import Source, place_in_file, place_in_options
from gateway.configuration.sections import Config
from gateway.configuration.structuring import InvalidDocument, make_converter, structure
from gateway.configuration.value_parsers import PARSERS
from gateway.errors import ConfigurationError

DEFAULT_LISTEN: Final = "127.0.0.1:8080"
# Far more than any configuration has. Without a bound, a wrong path (/dev/zero) would fill the memory.
_FILE_BYTES: Final = 1024 * 1024
# The end of tomllib's messages, where the place is known.
_SYNTAX_ERROR: Final = re.compile(
    r"(?P<cause>.*) \(at line (?P<line>\d+), column (?P<column>\d+)\)"
)
_CONVERTER: Final = make_converter(PARSERS)


def from_file(path: Path) -> Config:
    """Load a TOML file. Raises ConfigurationError with one line for each problem."""
    return from_text(str(path), read_file(path))


def from_text(name: str, text: str) -> Config:
    """As ``from_file``, for the text of the file ``name``."""
    document = _parse_toml(name, text)
    return _load(Source(name, place_in_file, KeyLines(text).line_of), document)


def from_document(name: str, document: Mapping[str, object]) -> Config:
    """As ``from_file``, for a file that has been parsed; ``name`` stands for it in problems."""
    return _load(Source(name), document)


def from_options(listen: Sequence[str], upstream: Sequence[str], workers: str = "") -> Config:
    """Configure listeners, upstream servers and the number of workers only. Raises ConfigurationError as
    ``from_file``.
    """
    document: dict[str, object] = {
        "listener": [{"address": address} for address in listen or [DEFAULT_LISTEN]]
    }
    if workers:
        document["workers"] = int(workers) if workers.isdecimal() else workers
    if upstream:
        document["upstream"] = [{"servers": list(upstream)}]
    return _load(Source("command line", place_in_options), document)


def read_file(path: Path) -> str:
    """The text of a configuration file. Raises ConfigurationError."""
    name = str(path)
    try:
        with path.open("rb") as file:
            content = file.read(_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"{name}: cannot be read: {error.strerror}") from None
    if len(content) > _FILE_BYTES:
        raise ConfigurationError(f"{name}: over {_FILE_BYTES} bytes; not a configuration file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"{name}: line {line}: not UTF-8; save it as UTF-8") from None


def _parse_toml(name: str, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigurationError(f"{name}: nested too deeply") from None
    except ValueError as error:
        raise ConfigurationError(f"{name}: {_syntax_problem(str(error))}") from None


def _syntax_problem(message: str) -> str:
    found = _SYNTAX_ERROR.fullmatch(message)
    if not found:
        return f"not TOML: {message}"
    return f"line {found['line']}, column {found['column']}: not TOML: {found['cause']}"


def _load(source: Source, document: Mapping[str, object]) -> Config:
    try:
        config = structure(_CONVERTER, document, Config)
        problems = list(check(config))
    except InvalidDocument as error:
        problems = error.problems
    if problems:
        lines = [source.line(problem.path, problem.cause) for problem in problems]
        raise ConfigurationError("\n".join(lines))
    return attrs.evolve(config, source=source)
