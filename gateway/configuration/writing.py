"""Writing of a configuration: every key with its value, defaults included.

The text, read again, gives an equal configuration. A key that is not set has no form in TOML; a comment
names it. Files are named and not read, so the text has no token and no private key.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from types import UnionType
from typing import Any, Union, get_args, get_origin

import attrs
import tomli_w

from gateway.configuration.problems import KeyPath, place_in_file
from gateway.configuration.sections import Config
from gateway.configuration.structuring import attributes_of, key_of
from gateway.configuration.value_parsers import WRITERS


def document_of(config: Config) -> dict[str, Any]:
    """The configuration as a document of plain values. The value of a key that is not set is None."""
    return _table(config)


def toml_of(config: Config) -> str:
    """The configuration as the text of a TOML file."""
    document = document_of(config)
    comments = "".join(f"# Not set: {place_in_file(path)}\n" for path in _unset(document))
    return f"{comments}\n{_tables(document)}" if comments else _tables(document)


def written(value: Any, kind: Any) -> Any:
    """The plain value of an attribute of type ``kind``; None if it is not set."""
    if value is None:
        return None
    if get_origin(kind) in (Union, UnionType):
        # What may be not set, and is.
        kind = next((each for each in get_args(kind) if each in WRITERS), kind)
    if kind in WRITERS:
        return WRITERS[kind](value)
    if get_origin(kind) is tuple:
        return [written(each, get_args(kind)[0]) for each in value]
    if attrs.has(type(value)):
        return _table(value)
    return value.value if isinstance(value, Enum) else value


def _table(section: Any) -> dict[str, Any]:
    return {
        key_of(attribute): written(getattr(section, attribute.name), attribute.type)
        for attribute in attributes_of(attrs.resolve_types(type(section)))
    }


def _unset(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    if value is None:
        yield path
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _unset(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _unset(inner, (*path, index))


def _tables(table: dict[str, Any], name: str = "") -> str:
    """The table's values, and then the tables in it, each under a separate header.

    tomli_w alone would write short tables of an array in one line, which the documentation does not show.
    """
    inner = {key: value for key, value in table.items() if _has_tables(value)}
    values = {key: value for key, value in table.items() if key not in inner and value is not None}
    text = tomli_w.dumps(values)
    for key, value in inner.items():
        path = f"{name}.{key}" if name else key
        header, tables = (
            (f"[[{path}]]", value) if isinstance(value, list) else (f"[{path}]", [value])
        )
        text += "".join(f"\n{header}\n{_tables(each, path)}" for each in tables)
    return text


def _has_tables(value: object) -> bool:
    return isinstance(value, dict) or (
        isinstance(value, list) and any(isinstance(each, dict) for each in value)
    )
