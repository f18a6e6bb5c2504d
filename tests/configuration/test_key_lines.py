"""The line number of each key in a TOML document."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.configuration.key_lines import KeyLines

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = '''\
top = 1  # [not] = "a table"
dotted.key = 2
"quoted key" = """
[table]
inside = "a string"
"""
'literal.key' = \'\'\'
[[table]]\'\'\'

array = [
  1,  # ]
  { inner = 1 },
  "[x]",
]
one_line = [{ first = 1 }, { second = [2, { third = 3 }] }]
inline = { outer = { inner = 1 }, other = 2 }
[[listener]]
address = "x"
  [[ listener ]]  # a comment

  # another comment
  address = 'y'

[listener.sub]
key = 1
[[listener.deep]]
key = 1
[[listener.deep]]
key = 2
[implied.table]
a.b = 1
mixed = { n = [
  1
], o = 2 }
'''
EXPECTED = {
    ("top",): 1,
    ("dotted",): 2,
    ("dotted", "key"): 2,
    ("quoted key",): 3,
    ("literal.key",): 7,
    ("array",): 10,
    ("array", 0): 10,
    ("array", 1, "inner"): None,
    ("array", 1, "missing"): None,
    ("one_line", 1, "second", 1, "third"): 15,
    ("inline", "outer", "inner"): 16,
    ("inline", "other"): 16,
    ("listener",): 17,
    ("listener", 0): 17,
    ("listener", 0, "address"): 18,
    ("listener", 0, "missing"): 17,
    ("listener", 1): 19,
    ("listener", 1, "address"): 22,
    ("listener", 1, "sub"): 24,
    ("listener", 1, "sub", "key"): 25,
    ("listener", 1, "deep", 0): 26,
    ("listener", 1, "deep", 0, "key"): 27,
    ("listener", 1, "deep", 1, "key"): 29,
    ("listener", 1, "deep", 1, "missing"): 28,
    ("implied",): 30,
    ("implied", "table"): 30,
    ("implied", "table", "a", "b"): 31,
    ("implied", "table", "mixed"): 32,
    ("implied", "table", "mixed", "n"): 32,
    ("implied", "table", "mixed", "o"): None,
    ("absent",): None,
    (): None,
}


@pytest.mark.parametrize(("path", "line"), EXPECTED.items())
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_key_or_table_has_its_line(path: tuple[str | int, ...], line: int, end: str) -> None:
    tomllib.loads(DOCUMENT)
    assert KeyLines(DOCUMENT.replace("\n", end)).line_of(path) == line


def test_every_key_of_the_example_has_the_line_that_contains_it() -> None:
    text = (ROOT / "etc" / "rtmpt-gateway.toml").read_text()
    lines, found = KeyLines(text), list(paths_of(tomllib.loads(text)))
    assert found
    for path in found:
        number = lines.line_of(path)
        assert number is not None
        assert (
            str([step for step in path if isinstance(step, str)][-1])
            in text.split("\n")[number - 1]
        )


def test_a_value_over_the_work_limit_has_no_line() -> None:
    text = "first = 1\nlong = [\n" + "1,\n" * 20_000 + "]\nlast = 2\n"
    lines = KeyLines(text)
    assert lines.line_of(("first",)) == 1
    assert lines.line_of(("long",)) is None
    assert lines.line_of(("last",)) is None


def paths_of(value: Any, path: tuple[str | int, ...] = ()) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for step, inner in items:
        yield (*path, step)
        if isinstance(inner, dict | list):
            yield from paths_of(inner, (*path, step))


NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.sampled_from(
    [
        *("1", "[]", "{}", '"x" # [a]', "{ a = 1, b = { c = 2 } }", "[{ a = 1 }, { b = 2 }]"),
        *('"""\n[a]\nb = 1\n"""', "'''\n[[b]]'''", '"""a = \\\n  b"""'),
        *("[\n1,\n{ a = 1 },\n]", "[{ a = [\n1] , b = 1 }]", "{ a = { b = [\n] }, c = 1 }"),
    ]
)
KEYS = st.builds(".".join, st.lists(NAMES, min_size=1, max_size=3))
STATEMENTS = st.one_of(
    st.builds("{} = {}".format, KEYS, VALUES),
    st.builds("[{}]".format, KEYS),
    st.builds("[[{}]]".format, KEYS),
    st.sampled_from(["", "# [a]", "  # b = 1"]),
)


@given(st.lists(STATEMENTS, max_size=8))
def test_a_reported_line_is_the_first_that_can_have_the_key(statements: list[str]) -> None:
    """``tomllib`` does not find the key in the lines before that one."""
    text = "\n".join(statements)
    try:
        document = tomllib.loads(text)
    except ValueError:
        return
    lines = KeyLines(text)
    for path in paths_of(document):
        number = lines.line_of(path)
        if number is not None and isinstance(path[-1], str):
            assert not has_key(text, number - 1, path)
            assert path[-1] in text.split("\n")[number - 1]


def has_key(text: str, lines: int, path: tuple[str | int, ...]) -> bool:
    value: Any = tomllib.loads("\n".join(text.split("\n")[:lines]))
    try:
        for step in path:
            value = value[step]
    except (KeyError, IndexError):
        return False
    return True
