"""A document of plain values into frozen attrs classes, with every problem named by its place.

cattrs does the work; this file adds what an operator needs. Values are taken by their TOML type and
never converted (``"5"`` is no number, ``1`` is no truth); a class's attrs validators speak for one
key, so that two bad keys give two problems; an unknown key is answered with the known one that it
resembles, and a time as text (``"30s"``) with the number of seconds. An attribute's metadata may say
``key``, its name in the document (None: it is not in there), and ``parse``, which makes its value from
the document's. The classes themselves, and what their values mean together, are not known here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from math import isfinite
from typing import Any, TypeVar, get_origin

import attrs
from attrs import frozen
from cattrs import ClassValidationError, Converter, ForbiddenExtraKeysError, IterableValidationError
from cattrs.gen import make_dict_structure_fn, override

from gateway.addresses import quoted

T = TypeVar("T")
Path = tuple[str | int, ...]


@frozen
class Problem:
    """What is wrong, and the keys and indices (from 0) that lead there."""

    path: Path
    cause: str


class Invalid(Exception):
    """The document does not fit; holds every problem found."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems)
        self.problems = problems


def key_of(attribute: attrs.Attribute[Any]) -> str:
    """The name of an attribute in the document."""
    return str(attribute.metadata.get("key", attribute.name))


def attributes_of(kind: type) -> list[attrs.Attribute[Any]]:
    """The attributes that are in the document."""
    return [each for each in attrs.fields(kind) if each.metadata.get("key", each.name) is not None]


def make_converter(parsers: Mapping[Any, Callable[[object], object]]) -> Converter:
    """A converter for ``structure``; the parsers make a type from the document's plain value."""
    converter = Converter(forbid_extra_keys=True, detailed_validation=True)
    for kind, parse in {**_PLAIN, **parsers}.items():
        converter.register_structure_hook(kind, _hook(parse))
    converter.register_structure_hook_factory(
        attrs.has, lambda kind: _structure_class(kind, converter)
    )
    return converter


def structure(converter: Converter, document: Mapping[str, object], kind: type[T]) -> T:
    """Make the class from the document; raises Invalid with every problem there is."""
    try:
        return converter.structure(document, kind)
    except (ClassValidationError, IterableValidationError) as error:
        raise Invalid(list(_problems(error, ()))) from None


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


_PLAIN: dict[Any, Callable[[object], object]] = {
    bool: lambda value: _expect(value, bool, "true or false"),
    int: lambda value: _expect(value, int, "a whole number"),
    float: _number,
    str: lambda value: _expect(value, str, "a string in quotes"),
}


# What people write behind a number of seconds, and how many seconds it is.
_UNITS = {"ms": 0.001, "": 1, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_WITH_UNIT = re.compile(r"(?P<number>[0-9]{1,9}(\.[0-9]{1,9})?) *(?P<unit>[a-z]*)", re.IGNORECASE)


def _seconds(value: object, example: object) -> float:
    """As ``_number``; a time with its unit is answered with the number to write."""
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
    # mypy takes the overrides for the function's own keywords.
    from_table: Callable[[Mapping[str, object], type], Any] = make_dict_structure_fn(
        kind,
        converter,
        **overrides,  # type: ignore[arg-type]
    )

    def from_value(value: object, _: object) -> Any:
        return from_table(_table(value), kind)

    return from_value


def _table(value: object) -> Mapping[str, object]:
    if isinstance(value, list):
        raise ValueError("written with [[ ]], but there can be only one: write it with [ ]")
    return _expect(value, dict, "a table")  # type: ignore[no-any-return]


def _structure_value(
    attribute: attrs.Attribute[Any], converter: Converter
) -> Callable[[object, Any], Any]:
    parse = attribute.metadata.get("parse")

    def from_value(value: object, kind: Any) -> Any:
        if get_origin(kind) is tuple:
            _list(value)
        if parse:
            made = parse(value)
        elif kind is float and attribute.name.endswith("_s"):
            made = _seconds(value, attribute.default)
        else:
            made = converter.structure(value, kind)
        _validate(attribute, made)
        return made

    return from_value


def _list(value: object) -> None:
    if isinstance(value, dict):
        raise ValueError("written with [ ], but there can be several: write it with [[ ]]")
    _expect(value, list, "a list in [ ]")


def _validate(attribute: attrs.Attribute[Any], made: object) -> None:
    """Run the attribute's own validator here, where cattrs still knows its place."""
    if attribute.validator is None:
        return
    try:
        attribute.validator(None, attribute, made)
    except ValueError as error:
        # attrs begins its messages with the name, which the place already says.
        raise ValueError(str(error).removeprefix(f"'{attribute.name}' ")) from None


def _problems(error: BaseException, path: Path) -> Iterator[Problem]:
    if isinstance(error, ClassValidationError):
        yield from _table_problems(error, path)
    elif isinstance(error, IterableValidationError):
        for inner, item in error.group_exceptions()[0]:
            yield from _problems(inner, (*path, item.index))
    elif isinstance(error, KeyError):
        yield Problem(path, "missing; it has no default")
    else:
        yield Problem(path, str(error))


def _table_problems(error: ClassValidationError, path: Path) -> Iterator[Problem]:
    keys = {attribute.name: key_of(attribute) for attribute in attributes_of(error.cl)}
    known, bare = error.group_exceptions()
    misspelt = _misspelt(bare, list(keys.values()))
    for inner, note in known:
        key = keys[note.name]
        # A key that is there under a wrong name is one problem, not two.
        if not (isinstance(inner, KeyError) and key in misspelt.values()):
            yield from _problems(inner, (*path, key))
    for wrong, right in misspelt.items():
        hint = f'did you mean "{right}"?' if right else f"known here: {', '.join(keys.values())}"
        yield Problem((*path, wrong), f"unknown key; {hint}")
    for inner in bare:
        if not isinstance(inner, ForbiddenExtraKeysError):
            yield from _problems(inner, path)


def _misspelt(errors: Sequence[BaseException], known: Sequence[str]) -> dict[str, str]:
    """Each unknown key, with the known one that it resembles, or nothing."""
    unknown = [
        key
        for error in errors
        if isinstance(error, ForbiddenExtraKeysError)
        for key in sorted(error.extra_fields)
    ]
    return {key: "".join(get_close_matches(key, known, n=1)) for key in unknown}
