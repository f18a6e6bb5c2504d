"""The direction of imports (DESIGN.md, Rooms), checked in the sources."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "gateway").rglob("*.py"))

_GROUND = {
    *("gateway.addresses", "gateway.descriptors", "gateway.errors", "gateway.logs"),
    *("gateway.periodic_calls", "gateway.protocols", "gateway.regular_files"),
}
_UPSTREAMS = {
    *_GROUND,
    "gateway.pem_files",
    *("gateway.tls", "gateway.transport", "gateway.vanished_peers", "gateway.wrapped_transport"),
}
_TUNNELS = {*_UPSTREAMS, "gateway.upstreams"}
_CLIENT_SIDE = {*_TUNNELS, "gateway.tunnels"}

# What each room or file may import, itself aside; a prefix stands for all that is under it. What
# is not named here may not be there.
ALLOWED: dict[str, set[str]] = {
    "gateway.errors": set(),
    "gateway.addresses": {"gateway.errors"},
    "gateway.http_proxies": {"gateway.addresses", "gateway.protocols"},
    "gateway.configuration": {
        *("gateway.addresses", "gateway.errors"),
        *("gateway.protocols.limits", "gateway.protocols.templates"),
    },
    "gateway.protocols": {"gateway.errors"},
    "gateway.descriptors": set(),
    "gateway.interrupts": set(),
    "gateway.logs": set(),
    "gateway.process_arguments": set(),
    "gateway.command_line": {"gateway.standard_output"},
    "gateway.periodic_calls": set(),
    "gateway.reactor_time": set(),
    "gateway.regular_files": {"gateway.errors"},
    "gateway.standard_output": set(),
    "gateway.systemd_notify": set(),
    "gateway.tls": {"gateway.wrapped_transport"},
    "gateway.wrapped_transport": set(),
    "gateway.transport": {"gateway.vanished_peers"},
    "gateway.vanished_peers": set(),
    "gateway.dispatch": {"gateway.transport", "gateway.udp.reader"},
    "gateway.telemetry": {"gateway.errors", "gateway.logs", "gateway.protocols"},
    "gateway.upstreams": _UPSTREAMS,
    "gateway.tunnels": _TUNNELS,
    "gateway.pem_files": {"gateway.addresses", "gateway.errors", "gateway.regular_files"},
    "gateway.listeners": _CLIENT_SIDE,
    "gateway.udp.reader": set(),
    "gateway.udp": {*_CLIENT_SIDE, "gateway.listeners.ports"},
    # The sessions may live in other processes: it knows their figures, and neither them nor their tables.
    "gateway.admin": {
        *("gateway.errors", "gateway.protocols.rtmp.mirror_states", "gateway.telemetry"),
    },
    # One process's share, put together.
    "gateway.workers": {
        *_CLIENT_SIDE,
        "gateway.admin",
        "gateway.configuration",
        "gateway.dispatch",
        "gateway.listeners",
        "gateway.reactor_time",
        "gateway.telemetry",
        "gateway.udp",
    },
    # Starts workers, and makes them one gateway.
    "gateway.supervisor": {
        *("gateway.addresses", "gateway.admin", "gateway.configuration", "gateway.errors"),
        *("gateway.listeners.certificate_file", "gateway.listeners.certificates"),
        *("gateway.listeners.mutual_tls", "gateway.listeners.ports", "gateway.logs"),
        *("gateway.periodic_calls", "gateway.protocols", "gateway.regular_files"),
        *("gateway.telemetry", "gateway.transport"),
        *("gateway.tunnels.ids", "gateway.upstreams.dial", "gateway.upstreams.dns"),
        *("gateway.upstreams.names", "gateway.upstreams.probe"),
        *("gateway.udp.sockets", "gateway.upstreams.tls_client"),
        "gateway.workers",
    },
    "gateway.reloading": {
        *("gateway.errors", "gateway.supervisor", "gateway.systemd_notify"),
        "gateway.telemetry.versions",
    },
    "gateway.service": {"gateway"},
    "gateway.command": {
        *("gateway.command_line", "gateway.configuration", "gateway.service"),
        "gateway.standard_output",
    },
    "gateway.twistd_process": {"gateway.telemetry.logs"},
    # A client's program that relays as the gateway does: it shares connections and relays with it, and the
    # ways and their failures with the port tester.
    "gateway.client": {
        *(*_CLIENT_SIDE, "gateway.dispatch", "gateway.listeners.ports", "gateway.reactor_time"),
        *("gateway.http_proxies", "gateway.port_test.answers", "gateway.port_test.observations"),
        *("gateway.port_test.certificates", "gateway.process_arguments", "gateway.command_line"),
        *("gateway.port_test.verdicts", "gateway.port_test.ways", "gateway.systemd_notify"),
        *("gateway.telemetry.logs", "gateway.telemetry.measurement.tcp_info"),
        *("gateway.telemetry.versions", "gateway.twistd_process", "gateway.interrupts"),
    },
    # A client's program: it shares with the gateway what the bytes mean, and nothing else.
    "gateway.port_test": {
        *("gateway.addresses", "gateway.errors", "gateway.http_proxies", "gateway.protocols"),
        *("gateway.command_line", "gateway.process_arguments", "gateway.standard_output"),
        "gateway.interrupts",
    },
}

# Packages without I/O: no Twisted, and bytes in, bytes out.
PURE = ("gateway.protocols", "gateway.errors")
PURE_PACKAGES = {"attrs", "cryptography", "httptools"}
IMPURE_STANDARD = {
    *("asyncio", "concurrent", "multiprocessing", "queue", "sched", "signal", "subprocess"),
    *("threading", "_thread", "contextvars"),
    *("time", "datetime", "random", "secrets", "uuid"),
    *("socket", "select", "selectors", "socketserver", "ssl", "http.client", "urllib.request"),
    *("os", "io", "pathlib", "shutil", "tempfile", "glob", "mmap", "fcntl", "platform"),
    *("logging", "warnings", "atexit", "importlib"),
}
# The composition roots of the three kinds of process.
_ROOTS = ("gateway.service", "gateway.workers.run", "gateway.client.service")
# These may use other packages, but run without a reactor.
NO_TWISTED = (
    *PURE,
    *("gateway.addresses", "gateway.configuration", "gateway.http_proxies", "gateway.port_test"),
    *("gateway.process_arguments", "gateway.regular_files", "gateway.standard_output"),
    "gateway.interrupts",
)


def imports_of(source: str) -> Iterator[str]:
    """Every module, or name of a module, that is imported anywhere in the source."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = "." * node.level + (node.module or "")
            yield from (f"{start}.{alias.name}" for alias in node.names)


def under(name: str, prefixes: set[str] | tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def violations(module: str, source: str) -> list[str]:
    """The forbidden imports of the module."""
    room = next((room for room in ALLOWED if under(module, {room})), None)
    if room is None:
        return [] if not list(imports_of(source)) else [f"{module}: is in no room"]
    return [f"{module}: {name}" for name in imports_of(source) if is_wrong(module, room, name)]


def is_wrong(module: str, room: str, name: str) -> bool:
    if name.startswith("."):  # reads differently in every file, and hides the room
        return True
    if under(name, {"gateway"}):
        return not under(name, {room, *ALLOWED[room]})
    if under(name, {"twisted.internet.reactor"}) and module not in _ROOTS:
        return True
    if under(module, NO_TWISTED) and under(name, {"twisted", "zope", "OpenSSL"}):
        return True
    return under(module, PURE) and not is_pure(name)


def is_pure(name: str) -> bool:
    package = name.partition(".")[0]
    if package in PURE_PACKAGES:
        return True
    return package in sys.stdlib_module_names and not under(name, IMPURE_STANDARD)


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_a_file_imports_only_what_its_package_may(path: Path) -> None:
    assert violations(module_of(path), path.read_text()) == []


def test_the_source_files_are_found() -> None:
    assert {"gateway.configuration.sections", "gateway.service", "gateway.protocols.limits"} <= set(
        map(module_of, SOURCES)
    )


def test_every_package_of_the_tree_has_a_rule() -> None:
    rooms = {".".join(module_of(path).split(".")[:2]) for path in SOURCES} - {"gateway"}
    assert rooms <= set(ALLOWED)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("gateway.protocols.session", "import time"),
        ("gateway.protocols.session", "from time import monotonic"),
        ("gateway.protocols.session", "def late():\n    import random"),
        ("gateway.protocols.session", "from twisted.internet.defer import Deferred"),
        ("gateway.protocols.session", "from gateway import transport"),
        ("gateway.protocols.session", "from gateway.tunnels.table import SessionTable"),
        ("gateway.protocols.rtmp.chunks", "import prometheus_client"),
        ("gateway.protocols.rtmp.chunks", "from . import amf0"),
        ("gateway.transport", "from gateway.listeners.http import HTTPConnection"),
        ("gateway.upstreams.pool", "from gateway.tunnels import table"),
        ("gateway.tunnels.table", "import gateway.listeners.http"),
        ("gateway.tunnels.table", "from gateway.telemetry.sessions import Sessions"),
        ("gateway.listeners.http", "from gateway.configuration.sections import Config"),
        ("gateway.listeners.http", "from gateway import service"),
        ("gateway.listeners.http", "def late():\n    from twisted.internet import reactor"),
        ("gateway.workers.worker", "import twisted.internet.reactor"),
        ("gateway.telemetry.sessions", "from gateway.tunnels.table import SessionTable"),
        ("gateway.admin.resources.endpoints", "from gateway.tunnels.table import SessionTable"),
        ("gateway.admin.http.server", "from gateway.workers.worker import Worker"),
        ("gateway.configuration.loading", "from gateway.upstreams.pool import Pool"),
        ("gateway.configuration.loading", "from twisted.python import usage"),
        ("gateway.port_test.trials", "from twisted.internet.defer import Deferred"),
        ("gateway.port_test.trials", "from gateway.transport import EagerServer"),
        ("gateway.helpers", "import gateway.errors"),
        (
            "gateway.tunnels.table",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import gateway.admin",
        ),
    ],
)
def test_a_forbidden_import_is_reported(module: str, source: str) -> None:
    assert len(violations(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("gateway.protocols.session", "from gateway.protocols.limits import Limits"),
        ("gateway.protocols.http", "import re, httptools\nfrom http import HTTPStatus"),
        ("gateway.upstreams.dial", "from gateway.transport import EagerWrites"),
        ("gateway.listeners.http", "from gateway.tunnels.table import SessionTable\nimport socket"),
        ("gateway.admin.http.server", "from gateway.telemetry import metrics"),
        ("gateway.service", "from twisted.internet import reactor\nimport gateway.workers.worker"),
    ],
)
def test_an_import_downward_is_allowed(module: str, source: str) -> None:
    assert violations(module, source) == []
