"""Problems of a configuration, and the lines that report them: source, line, key, cause.

    FILE: line 12: [[listener]] 2, key "address": CAUSE

A key path has the keys and indices (from 0) that lead to a value. Problems found while the configuration is
loaded and those found later, when a port is opened or a file is read, are reported in the same form.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from attrs import frozen

from gateway.addresses import quoted
from gateway.errors import ConfigurationError

KeyPath = tuple[str | int, ...]


@frozen
class Problem:
    """A value that is refused: its key path, and the cause with what to do."""

    path: KeyPath
    cause: str


def place_in_file(path: KeyPath) -> str:
    """``[[listener]] 2, key "trusted", item 1``: tables and items counted from 1."""
    if not path:
        return ""
    table, rest = str(path[0]), path[1:]
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,60}", table):
        table = quoted(table)
    parts = [f"[{table}]"]
    if rest and isinstance(rest[0], int):
        parts = [f"[[{table}]] {rest[0] + 1}"]
        rest = rest[1:]
    elif rest[:1] == ("certificate",) and len(rest) > 1:
        parts = [f"[[{table}.certificate]] {int(rest[1]) + 1}"]
        rest = rest[2:]
    parts += [
        f"item {step + 1}" if isinstance(step, int) else f"key {quoted(step)}" for step in rest
    ]
    return ", ".join(parts)


def place_in_options(path: KeyPath) -> str:
    """The command line option that sets the value."""
    return {"listener": "--listen", "upstream": "--upstream"}[str(path[0])]


@frozen
class Source:
    """The file or command line that a configuration was read from."""

    name: str
    place: Callable[[KeyPath], str] = place_in_file
    # The line of a key in the file, counted from 1; None if it is not known.
    line_of: Callable[[KeyPath], int | None] = lambda _: None

    @contextmanager
    def at(self, *path: str | int) -> Iterator[None]:
        """Prefix each line of a ConfigurationError raised inside with the source and the key's place."""
        try:
            yield
        except ConfigurationError as error:
            lines = [self.line(path, cause) for cause in str(error).splitlines()]
            raise ConfigurationError("\n".join(lines)) from None

    def line(self, path: KeyPath, cause: str) -> str:
        """The line that reports ``cause`` at ``path``."""
        number = self.line_of(path)
        line = "" if number is None else f"line {number}"
        return ": ".join(filter(None, (self.name, line, self.place(path), cause)))
