"""The line of each key in a TOML document; ``tomllib`` reports none.

The document is cut into statements: one line, or as many as ``tomllib`` needs to accept them. A statement
that begins with ``[`` is the header of a table; each other one sets a key. ``tomllib`` reads every
statement, so that strings, comments, arrays and dotted keys need no parser of our own.

A line is the right one or missing: a key inside a value of several lines has none. The document must be
valid.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any, Final, final

Path = tuple[str | int, ...]

# A statement of several lines is read again with each of them: enough for any file that people write.
_MOST_CHARACTERS: Final = 4 * 1024 * 1024


@final
class KeyLines:
    """The lines of a document's keys and tables, read at the first question."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._lines: dict[Path, int | None] | None = None

    def line_of(self, path: Path) -> int | None:
        """The line of the key at ``path``, of the key whose list has the item there, or of the table in
        which the key is missing; counted from 1."""
        if self._lines is None:
            self._lines = _lines_of(self._text)
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path)


def _lines_of(text: str) -> dict[Path, int | None]:
    try:
        return _Reader(text).lines
    except RecursionError:
        return {}


class _Reader:
    def __init__(self, text: str) -> None:
        self.lines: dict[Path, int | None] = {}
        self._table: Path = ()
        # How many tables there are of each ``[[...]]``.
        self._counts: dict[Path, int] = {}
        for line, is_long, statement in _statements(text):
            parsed = tomllib.loads(statement)
            if statement.lstrip().startswith("["):
                self._header(parsed, line)
            else:
                self._keys(self._table, parsed, line, is_long)

    def _header(self, parsed: dict[str, Any], line: int) -> None:
        path: Path = ()
        value: Any = parsed
        while value:
            if isinstance(value, list):
                # Innermost: ``[[...]]`` begins another table of this name.
                self._counts[path] = self._counts.get(path, 0) + 1
                value = value[0]
            else:
                ((name, value),) = value.items()
                path = (*path, name)
                self.lines.setdefault(path, line)
            if path in self._counts and not isinstance(value, list):
                path = (*path, self._counts[path] - 1)
                self.lines.setdefault(path, line)
        self._table = path

    def _keys(self, path: Path, value: Any, line: int | None, is_long: bool) -> None:
        """Note what is inside ``value``. In a statement of several lines, only the first key of a table
        is known to be on the line of what it is in."""
        if isinstance(value, dict):
            for name, inner in value.items():
                self.lines.setdefault((*path, name), line)
                self._keys((*path, name), inner, line, is_long)
                line = None if is_long else line
        elif isinstance(value, list):
            line = None if is_long else line
            for index, inner in enumerate(value):
                if isinstance(inner, dict | list):
                    self.lines.setdefault((*path, index), line)
                    self._keys((*path, index), inner, line, is_long)


def _statements(text: str) -> Iterator[tuple[int, bool, str]]:
    """Each statement with its first line's number, and whether it has several lines."""
    begun, statement, left = 1, "", _MOST_CHARACTERS
    for number, line in enumerate(text.split("\n"), 1):
        statement += f"{line}\n"
        left -= len(statement)
        if left < 0:
            return
        try:
            is_empty = not tomllib.loads(statement)
        except ValueError:
            continue
        if not is_empty:
            yield begun, number > begun, statement
        begun, statement = number + 1, ""
