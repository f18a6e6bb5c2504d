"""Generates the JSON schema of configurations (draft 7), with which editors complete and check keys.

Run it after a change of the configuration's classes or of rtmpt-gateway.toml, without arguments. Types,
defaults and bounds are those of the classes in gateway/configuration; descriptions are the comments of
rtmpt-gateway.toml. The schema accepts every valid configuration. It does not compare keys with each other,
and its patterns of addresses are wider than the parsers: ``rtmpt-gateway check`` checks everything.

The file is in the package, so that ``rtmpt-gateway config --schema`` can print it; a link to it is here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from enum import EnumType
from itertools import pairwise
from pathlib import Path
from types import NoneType
from typing import Any, Final, Literal, get_args, get_origin

import attrs

from gateway.addresses import ListenAddress, Network, ServerAddress
from gateway.configuration import values
from gateway.configuration.sections import Config
from gateway.configuration.structuring import alone_of, attributes_of, key_of
from gateway.configuration.writing import written

_Schema = dict[str, Any]
_Path = tuple[str, ...]

_HERE: Final = Path(__file__).resolve().parent
EXAMPLE: Final = _HERE / "rtmpt-gateway.toml"
FILE: Final = _HERE.parent / "gateway/configuration/schema.json"


def text() -> str:
    """The schema's file."""
    described = descriptions(EXAMPLE.read_text(encoding="utf-8"))
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Configuration of the RTMPT gateway",
        **_table(Config, (), described),
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


# --- Types ---


def _strings(pattern: str) -> _Schema:
    return {"type": "string", "pattern": f"^(?:{pattern})$"}


_SERVER: Final = _strings(r"[^/]+")
_TYPES: Final[Mapping[Any, _Schema]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    ListenAddress: _strings(r"unix:/.*|systemd:[^:]+|.+:[0-9]{1,5}"),
    ServerAddress: _strings(r"([A-Za-z]+://)?[^/]+"),
    values.WebServerAddress: _SERVER,
    values.NodeAddress: _strings(r".+:[0-9]{1,5}"),
    values.PeerAddress: _SERVER,
    values.DatagramAddress: _strings(r".+:[0-9]{1,5}"),
    values.DatagramServer: _SERVER,
    Network: _strings(r"[0-9A-Fa-f:.]+(/[0-9]{1,3})?"),
    values.AbsolutePath: _strings(r"/.*"),
    values.Host: _strings(values.HOST_NAME.pattern),
    values.Application: _strings(values.APPLICATION_NAME.pattern),
    values.Pattern: _strings(values.NAME_PATTERN.pattern),
    values.PublicPort: _strings(values.PUBLIC_PORT.pattern),
    values.HttpUrl: _strings(r"https?://[!-~]+"),
    values.IPAddress: _strings(r"[0-9A-Fa-f:.]+(%.+)?"),
    values.ServerName: _strings(r"[^/\[\]]+"),
    values.HostPattern: _strings(values.HOST_PATTERN.pattern),
    values.DomainPattern: _strings(values.DOMAIN_PATTERN.pattern),
    values.WebOrigin: _strings(r"\*|[A-Za-z][A-Za-z0-9+.-]*://[^/]+"),
    values.Port: {"type": "integer", "minimum": 1, "maximum": values.MOST_PORT},
    values.CookieName: _strings(values.COOKIE_NAME.pattern),
    values.UpstreamReference: _strings(values.UPSTREAM_REFERENCE.pattern),
    values.Template: {"type": "string"},
    values.CongestionControl: _strings(values.CONGESTION_CONTROL_NAME.pattern),
    values.NodeId: _strings(values.NODE_NAME.pattern),
    values.UpstreamName: _strings(values.UPSTREAM_NAME.pattern),
    values.Latency: {
        "anyOf": [
            {"enum": [*values.LATENCIES]},
            {"type": "number", "minimum": 0, "maximum": values.LONGEST_HOLD_S},
        ]
    },
    values.WorkerCount: {
        "anyOf": [
            {"enum": ["auto"]},
            {"type": "integer", "minimum": 1, "maximum": values.MOST_WORKERS},
        ]
    },
}


def _table(kind: type, path: _Path, described: Mapping[_Path, str]) -> _Schema:
    attributes = attributes_of(attrs.resolve_types(kind))
    required = [key_of(each) for each in attributes if each.default is attrs.NOTHING]
    return {
        "type": "object",
        "properties": {
            key_of(each): _key(each, (*path, key_of(each)), described) for each in attributes
        },
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }


def _key(attribute: attrs.Attribute[Any], path: _Path, described: Mapping[_Path, str]) -> _Schema:
    schema = {
        "description": described[path],
        **_values(attribute, path, described),
        **_bounds(attribute),
    }
    # A table's default is that of its keys.
    if attribute.default not in (attrs.NOTHING, None) and "properties" not in schema:
        default = written(attribute.default, attribute.type)
        if default is not None:
            schema["default"] = default
    return schema


def _values(
    attribute: attrs.Attribute[Any], path: _Path, described: Mapping[_Path, str]
) -> _Schema:
    schema = _value(attribute.type, path, described)
    return {"anyOf": [schema["items"], schema]} if attribute.metadata.get("or_one") else schema


def _value(kind: Any, path: _Path, described: Mapping[_Path, str]) -> _Schema:
    if kind in _TYPES:
        return _TYPES[kind]
    parts = [part for part in get_args(kind) if part is not NoneType]
    if get_origin(kind) is Literal:
        return {"enum": parts}
    if get_origin(kind) is tuple:
        return {"type": "array", "items": _value(parts[0], path, described)}
    if parts:
        (kind,) = parts
        return _value(kind, path, described)
    if isinstance(kind, EnumType):
        return {"enum": [each.value for each in kind]}
    return _section(kind, path, described)


def _section(kind: type, path: _Path, described: Mapping[_Path, str]) -> _Schema:
    """A table, or one of its values alone."""
    table, alone = _table(kind, path, described), alone_of(kind)
    return table if alone is None else {"anyOf": [_value(alone.type, path, described), table]}


_BOUNDS: Final = {">=": "minimum", ">": "exclusiveMinimum", "<=": "maximum"}


def _bounds(attribute: attrs.Attribute[Any]) -> _Schema:
    validator: Any = attribute.validator
    if validator is None:
        return {}
    if get_origin(attribute.type) is tuple:
        # The only validator of lists refuses empty ones.
        return {"minItems": 1}
    each = getattr(validator, "_validators", [validator])
    return {_BOUNDS[one.compare_op]: one.bound for one in each}


# --- Descriptions ---

_SETTING: Final = re.compile(
    r"#?(?:\[{1,2}(?P<table>[a-z_.]+)\]{1,2}|(?P<key>[a-z_]+) = [^#]*(?:# *(?P<remark>.*))?)"
)


def descriptions(example: str) -> dict[_Path, str]:
    """The comments of the example by key path.

    The comment of a paragraph describes all tables and keys in it, and a comment behind a key that key.
    """
    found: dict[_Path, str] = {}
    table: _Path = ()
    for paragraph in re.split(r"\n{2,}", example):
        lines = paragraph.splitlines()
        comment = _joined([line[2:] for line in lines if re.match("#( |$)", line)])
        for setting in filter(None, map(_SETTING.fullmatch, lines)):
            path = table = tuple(setting["table"].split(".")) if setting["table"] else table
            if setting["key"]:
                path = (*table, setting["key"])
            # A second table of a list has examples of the same keys.
            found.setdefault(path, " ".join([comment, *_sentence(setting["remark"])]).strip())
    return found


def _sentence(remark: str | None) -> Iterator[str]:
    if remark:
        yield f"{remark[0].upper()}{remark[1:]}."


def _joined(lines: list[str]) -> str:
    """The lines as paragraphs; lines that are indented stay lines."""
    text = lines[0] if lines else ""
    for before, line in pairwise(lines):
        ends = not (before and line) or before.startswith(" ") or line.startswith(" ")
        text += f"\n{line}" if ends else f" {line}"
    return text


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
