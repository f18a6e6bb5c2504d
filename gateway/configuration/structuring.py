"""Structuring of a parsed TOML document into frozen attrs classes, with every problem and its key path.

cattrs traverses the document. This module adds strict types and the problems that an operator needs:

- a value must have the right TOML type and is not converted: ``"5"`` is not a number, ``1`` is not a flag;
- a class's attrs validators run for each key, so that two invalid keys give two problems;
- an unknown key is reported with the most similar known key;
- a duration written as text (``"30s"``) is reported with the number of seconds to write instead.

An attribute's metadata may have ``key``: its name in the document, or None if it is not read from there;
``may_stand_alone``: its value can be written in place of a table that has this key only; and ``or_one``: a
list of one string may be written as the string.
This module does not know the configuration's classes (sections.py) or what their values mean (values.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from enum import EnumType
from math import isfinite
from typing import Any, Final, Literal, TypeVar, get_args, get_origin

import attrs
from cattrs import ClassValidationError, Converter, ForbiddenExtraKeysError, IterableValidationError
from cattrs.gen import make_dict_structure_fn, override

from gateway.addresses import quoted
from gateway.configuration.problems import KeyPath, Problem

T = TypeVar("T")


class InvalidDocument(Exception):
    """The document cannot be structured. Has all problems that were found."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems)
        self.problems = problems


def key_of(attribute: attrs.Attribute[Any]) -> str:
    """The attribute's key in the document."""
    return str(attribute.metadata.get("key", attribute.name))


def attributes_of(kind: type) -> list[attrs.Attribute[Any]]:
    """The attributes that are read from the document."""
    return [each for each in attrs.fields(kind) if each.metadata.get("key", each.name) is not None]


def alone_of(kind: type) -> attrs.Attribute[Any] | None:
    """The attribute whose value can stand for a table of ``kind``."""
    resolved = attrs.resolve_types(kind)
    return next(
        (each for each in attributes_of(resolved) if each.metadata.get("may_stand_alone")), None
    )


def make_converter(parsers: Mapping[Any, Callable[[object], object]]) -> Converter:
    """A converter for ``structure``. A parser makes a value of its type from the document's plain value."""
    converter = Converter(forbid_extra_keys=True, detailed_validation=True)
    for kind, parse in {**_PLAIN, **parsers}.items():
        converter.register_structure_hook(kind, _hook(parse))
    converter.register_structure_hook_func(
        _is_literal,
        lambda value, kind: _choice(value, get_args(kind)),
    )
    converter.register_structure_hook_func(
        lambda kind: isinstance(kind, EnumType),
        lambda value, kind: kind(_choice(value, [each.value for each in kind])),
    )
    converter.register_structure_hook_factory(
        attrs.has, lambda kind: _structure_class(kind, converter)
    )
    return converter


def structure(converter: Converter, document: Mapping[str, object], kind: type[T]) -> T:
    """Make an instance of ``kind`` from the document. Raises InvalidDocument."""
    try:
        return converter.structure(document, kind)
    except (ClassValidationError, IterableValidationError) as error:
        raise InvalidDocument(list(_problems(error, ()))) from None


def _is_literal(kind: Any) -> bool:
    return get_origin(kind) is Literal


def _hook(parse: Callable[[object], object]) -> Callable[[object, object], object]:
    return lambda value, _: parse(value)


def _expect(value: object, kind: type | tuple[type, ...], name: str) -> Any:
    # In Python a bool is an int; in TOML it is not.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{quoted(value)}: expected {name}")
    return value


def _number(value: object) -> float:
    number = float(_expect(value, (int, float), "a number"))
    if not isfinite(number):
        raise ValueError(f"{quoted(value)}: expected a finite number")
    return number


def _choice(value: object, choices: Sequence[str]) -> str:
    """The value, if it is one of ``choices``; there are at least two."""
    if isinstance(value, str) and value in choices:
        return value
    *others, last = map(quoted, choices)
    raise ValueError(f"{quoted(value)}: expected {', '.join(others)} or {last}")


_PLAIN: Final[Mapping[Any, Callable[[object], object]]] = {
    bool: lambda value: _expect(value, bool, "true or false"),
    int: lambda value: _expect(value, int, "an integer"),
    float: _number,
    str: lambda value: _expect(value, str, "a string in quotes"),
}


# Units that are common in other programs' durations, in seconds.
_UNITS: Final = {"ms": 0.001, "": 1, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_WITH_UNIT: Final = re.compile(
    r"(?P<number>[0-9]{1,9}(\.[0-9]{1,9})?) *(?P<unit>[a-z]*)", re.IGNORECASE
)


def _seconds(value: object, example: object) -> float:
    """As ``_number``. Text with a unit raises ValueError with the number to write instead."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(value)
    written = _WITH_UNIT.fullmatch(value) if isinstance(value, str) else None
    if written is not None and written["unit"].lower() in _UNITS:
        example = round(float(written["number"]) * _UNITS[written["unit"].lower()], 6)
    if not isinstance(example, int | float):
        example = 30
    raise ValueError(f"{quoted(value)}: expected a number of seconds, such as {example:.15g}")


def _structure_class(kind: type, converter: Converter) -> Callable[[object, object], Any]:
    overrides = {attribute.name: override(omit=True) for attribute in attrs.fields(kind)} | {
        attribute.name: override(
            rename=key_of(attribute), struct_hook=_structure_value(attribute, converter)
        )
        for attribute in attributes_of(kind)
    }
    # mypy matches the overrides against the function's other keyword parameters.
    from_table: Callable[[Mapping[str, object], type], Any] = make_dict_structure_fn(
        kind,
        converter,
        **overrides,  # type: ignore[arg-type]
    )

    alone = alone_of(kind)
    alone_type: Any = None if alone is None else alone.type

    def from_value(value: object, _: object) -> Any:
        if alone is not None and not isinstance(value, dict | list):
            return kind(**{alone.name: converter.structure(value, alone_type)})
        return from_table(_table(value), kind)

    return from_value


def _table(value: object) -> Mapping[str, object]:
    if isinstance(value, list):
        raise ValueError("only one table is allowed; write [ ] instead of [[ ]]")
    return _expect(value, dict, "a table")  # type: ignore[no-any-return]


def _structure_value(
    attribute: attrs.Attribute[Any], converter: Converter
) -> Callable[[object, Any], Any]:
    def from_value(value: object, kind: Any) -> Any:
        if attribute.metadata.get("or_one") and isinstance(value, str):
            value = [value]
        if get_origin(kind) is tuple:
            _list(value)
        if kind is float and attribute.name.endswith("_s"):
            made = _seconds(value, attribute.default)
        else:
            made = converter.structure(value, kind)
        _validate(attribute, made)
        return made

    return from_value


def _list(value: object) -> None:
    if isinstance(value, dict):
        raise ValueError("several tables are allowed; write [[ ]] instead of [ ]")
    _expect(value, list, "a list in [ ]")


def _validate(attribute: attrs.Attribute[Any], made: object) -> None:
    """Run the attribute's validator. cattrs would run it with the whole class, and not report its key."""
    if attribute.validator is None:
        return
    try:
        attribute.validator(None, attribute, made)
    except ValueError as error:
        # attrs begins its messages with the name, which the key path already has.
        raise ValueError(str(error).removeprefix(f"'{attribute.name}' ")) from None


def _problems(error: BaseException, path: KeyPath) -> Iterator[Problem]:
    if isinstance(error, ClassValidationError):
        yield from _table_problems(error, path)
    elif isinstance(error, IterableValidationError):
        for inner, item in error.group_exceptions()[0]:
            yield from _problems(inner, (*path, item.index))
    elif isinstance(error, KeyError):
        yield Problem(path, "missing; this key is required")
    else:
        yield Problem(path, str(error))


def _table_problems(error: ClassValidationError, path: KeyPath) -> Iterator[Problem]:
    keys = {attribute.name: key_of(attribute) for attribute in attributes_of(error.cl)}
    of_keys, of_table = error.group_exceptions()
    similar = _similar_keys(of_table, list(keys.values()))
    for inner, note in of_keys:
        key = keys[note.name]
        # A misspelt key is one problem: it is unknown, but not missing as well.
        if not (isinstance(inner, KeyError) and key in similar.values()):
            yield from _problems(inner, (*path, key))
    for unknown, known in similar.items():
        hint = f'did you mean "{known}"?' if known else f"known keys: {', '.join(keys.values())}"
        yield Problem((*path, unknown), f"unknown key; {hint}")
    for inner in of_table:
        if not isinstance(inner, ForbiddenExtraKeysError):
            yield from _problems(inner, path)


def _similar_keys(errors: Sequence[BaseException], known: Sequence[str]) -> dict[str, str]:
    """Each unknown key with the most similar known one, or "" if none is similar."""
    unknown = [
        key
        for error in errors
        if isinstance(error, ForbiddenExtraKeysError)
        for key in sorted(error.extra_fields)
    ]
    return {key: "".join(get_close_matches(key, known, n=1)) for key in unknown}
