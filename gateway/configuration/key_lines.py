"""The line number of each key in a TOML document; ``tomllib`` does not report them.

The document is split into statements: one line, or as many lines as ``tomllib`` needs to accept them. A
statement that begins with ``[`` is a table header; any other one sets keys. ``tomllib`` parses each
statement, so that strings, comments, arrays and dotted keys need no parser here.

A reported line is always right; a key inside a value of several lines has none. The document must be valid.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any, Final, final

from gateway.configuration.problems import KeyPath

# A statement of several lines is parsed again with each of them. This is enough for any hand-written file.
_MOST_CHARACTERS: Final = 4 * 1024 * 1024


@final
class KeyLines:
    """The line numbers of a document's keys and tables, computed at the first call."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._lines: dict[KeyPath, int | None] | None = None

    def line_of(self, path: KeyPath) -> int | None:
        """The line of the key at ``path``, counted from 1.

        For an item of a list, the line of the list's key; for a missing key, that of its table.
        """
        if self._lines is None:
            self._lines = _lines_of(self._text)
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path)


def _lines_of(text: str) -> dict[KeyPath, int | None]:
    try:
        return _Reader(text).lines
    except RecursionError:
        return {}


class _Reader:
    def __init__(self, text: str) -> None:
        self.lines: dict[KeyPath, int | None] = {}
        self._table: KeyPath = ()
        # The number of tables of each ``[[...]]`` so far.
        self._counts: dict[KeyPath, int] = {}
        for line, is_long, statement in _statements(text):
            parsed = tomllib.loads(statement)
            if statement.lstrip().startswith("["):
                self._header(parsed, line)
            else:
                self._keys(self._table, parsed, line, is_long)

    def _header(self, parsed: dict[str, Any], line: int) -> None:
        path: KeyPath = ()
        value: Any = parsed
        while value:
            if isinstance(value, list):
                # Innermost: ``[[...]]`` adds a table to this array.
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

    def _keys(self, path: KeyPath, value: Any, line: int | None, is_long: bool) -> None:
        """Record the keys inside ``value``. In a statement of several lines, only the first key of a table
        is certain to be on the line where the table begins."""
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
    """The number of each statement's first line, whether it has several lines, and its text."""
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
