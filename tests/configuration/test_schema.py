"""The JSON schema for editors: it is current, and agrees with what the gateway reads."""

from __future__ import annotations

import json
import runpy
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from gateway.command import main
from gateway.configuration import loading
from gateway.configuration.writing import toml_of
from gateway.errors import ConfigurationError
from tests.configuration.refusals import LISTENER
from tests.helpers.example_configuration import EXAMPLE, enable_all

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "etc/make_schema.py"
FILE = ROOT / "etc/rtmpt-gateway.schema.json"

Document = dict[str, Any]


@pytest.fixture(scope="module")
def schema() -> Draft7Validator:
    schema = json.loads(FILE.read_text())
    Draft7Validator.check_schema(schema)
    return Draft7Validator(schema)


@pytest.fixture
def everything() -> Document:
    return tomllib.loads(enable_all(EXAMPLE.read_text()))


def keys(
    schema: Document, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Document]]:
    """The path of every key that is no table, and its schema."""
    for key, inner in schema["properties"].items():
        table = inner.get("items", inner)
        # A table, or one of its values alone.
        table = table.get("anyOf", [table])[-1]
        if "properties" in table:
            yield from keys(table, (*path, key))
        else:
            yield (*path, key), inner


# Any text is valid.
FREE_TEXTS = {("route", "rewrite", key) for key in ("tc_url", "app", "swf_url", "page_url")}
KEYS = dict(keys(json.loads(FILE.read_text())))


def test_the_schema_file_is_the_output_of_its_script() -> None:
    generated = runpy.run_path(str(SCRIPT))["text"]()
    assert FILE.read_text() == generated, "run etc/make_schema.py"


def test_the_script_writes_the_file_that_is_installed(tmp_path: Path) -> None:
    script = runpy.run_path(str(SCRIPT))
    assert script["FILE"] == FILE.resolve()
    assert script["FILE"].parent == ROOT / "gateway/configuration"


def test_config_prints_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    main(["config", "--schema"])
    assert capsys.readouterr().out == FILE.read_text()


def test_the_example_names_the_schema() -> None:
    (line, _) = EXAMPLE.read_text().split("\n", 1)
    assert line == f"#:schema ./{FILE.name}"


# --- Agreement with the gateway ---


@pytest.mark.parametrize("name", ["rtmpt-gateway.toml", "try.toml"])
def test_the_example_configurations_are_valid_in_the_schema(
    schema: Draft7Validator, name: str
) -> None:
    schema.validate(tomllib.loads((ROOT / "etc" / name).read_text()))


def test_the_example_is_valid_with_every_setting_enabled(
    schema: Draft7Validator, everything: Document
) -> None:
    schema.validate(everything)
    assert len(KEYS) > 60


def test_a_printed_configuration_is_valid_in_the_schema(schema: Draft7Validator) -> None:
    schema.validate(tomllib.loads(toml_of(loading.from_file(EXAMPLE))))


@pytest.mark.parametrize(
    "text",
    [
        '[[listener]]\naddress = "[::1]:80"\ntrusted = ["::1", "10.0.0.0/8"]',
        '[[listener]]\naddress = "unix:/run/a:b c.sock"',
        '[[listener]]\naddress = "systemd:http"',
        f'{LISTENER}[[upstream]]\nservers = ["media", "[::1]", "[fe80::1]:1936", "a_b.example.:1"]',
        f'{LISTENER}[[upstream]]\nservers = ["rtmp://media", "RTMPS://[::1]"]\ntls_server_name = "::1"',
        f'{LISTENER}[website]\nserver = "www.example.org"',
        f'{LISTENER}[tunnel]\nlatency = "high"',
        f"{LISTENER}[tunnel]\nlatency = 0",
        f"{LISTENER}[limits]\nhead_s = 1\nbuffers_share = 1",
        f'{LISTENER}[admin]\nhosts = ["[::1]", "Admin.Example.org"]',
        f'{LISTENER}[[upstream]]\nservers = ["a"]\n[[route]]\nupstream = "1"\nhost = "*.example.org"',
        f"workers = 32\n{LISTENER}" + '[[upstream]]\nservers = ["a"]',
        f'workers = "auto"\n{LISTENER}',
    ],
)
def test_each_valid_form_of_a_value_is_valid_in_the_schema(
    schema: Draft7Validator, text: str
) -> None:
    document = tomllib.loads(text)
    loading.from_document("valid", document)
    schema.validate(document)


@pytest.mark.parametrize(
    "text",
    [
        f"port = 80\n{LISTENER}",
        f'source = "x"\n{LISTENER}',
        f"workers = 0\n{LISTENER}",
        f"workers = 33\n{LISTENER}",
        f"workers = true\n{LISTENER}",
        '[[listener]]\nadress = "127.0.0.1:80"',
        "[[listener]]\ntls = false",
        '[listener]\naddress = "127.0.0.1:80"',
        '[[listener]]\naddress = "80"',
        f'{LISTENER}allow = "::1"',
        f'{LISTENER}deny = ["everybody"]',
        f'{LISTENER}congestion_control = ""',
        f"{LISTENER}[[upstream]]\nservers = []",
        f'{LISTENER}[[upstream]]\nservers = ["rtmp://media.example.org/live"]',
        f"{LISTENER}[[route]]\nupstream = []",
        f'{LISTENER}[[route]]\nupstream = "1"\napplication = "/live"',
        f'{LISTENER}[[route]]\nupstream = "1"\n[route.rewrite]\ntc_url = 1',
        f'{LISTENER}[[route]]\nhost = "a"',
        f'{LISTENER}[[route]]\nupstream = "1"\nhost = "a.*"',
        f'{LISTENER}[tls]\ncertificates = ["site.pem"]',
        f'{LISTENER}tls = true\n[[tls.certificate]]\nchain = "/a.pem"',
        f"{LISTENER}[website]",
        f'{LISTENER}[tunnel]\nlatency = "lo"',
        f"{LISTENER}[tunnel]\nlatency = 4.5",
        f"{LISTENER}[tunnel]\nanswer_s = 0",
        f"{LISTENER}[tunnel]\nanswer_s = 11",
        f'{LISTENER}[admin]\nhosts = ["name:80"]',
        f'{LISTENER}[log]\nlevel = "loud"',
        f'{LISTENER}[node]\nid = "AA"',
        f'{LISTENER}[tunnel]\ncookie = "a b"',
        f"{LISTENER}[cross_domain]\nports = [65536]",
        f'{LISTENER}[cors]\norigins = ["a.example.org"]',
        f"{LISTENER}[limits]\nhead_s = 0",
        f"{LISTENER}[limits]\nvanished_s = 4.9",
        f"{LISTENER}[limits]\nsessions = 0",
        f"{LISTENER}[limits]\nhed_s = 1",
    ],
)
def test_a_wrong_key_or_value_is_invalid_in_the_schema(schema: Draft7Validator, text: str) -> None:
    document = tomllib.loads(text)
    with pytest.raises(ConfigurationError):
        loading.from_document("invalid", document)
    assert not schema.is_valid(document)


@pytest.mark.parametrize("path", KEYS, ids=".".join)
def test_a_value_of_a_wrong_type_is_invalid_in_the_schema(
    schema: Draft7Validator, everything: Document, path: tuple[str, ...]
) -> None:
    table: Any = everything
    for key in path[:-1]:
        table = table[key][-1] if isinstance(table[key], list) else table[key]
    for wrong in ([True], {}, *(("a//",) if path not in FREE_TEXTS else ())):
        table[path[-1]] = wrong
        with pytest.raises(ConfigurationError):
            loading.from_document("wrong", everything)
        assert not schema.is_valid(everything)


@pytest.mark.parametrize(
    ("path", "description"),
    [
        ("node.id", "The identity of this gateway in a group of gateways: two characters of 0-9"),
        ("limits.head_s", "Deadlines of a connection. They are absolute: bytes that arrive do not"),
        ("listener.deny", "Refuse clients from these networks, even if they are in allow."),
        ("tls.certificate.chain", "The certificate and its chain. Required."),
    ],
)
def test_a_description_is_the_comment_of_the_example(path: str, description: str) -> None:
    assert KEYS[tuple(path.split("."))]["description"].startswith(description)


def test_a_description_ends_with_the_remark_behind_the_key() -> None:
    described = KEYS["limits", "drain_s"]["description"]
    assert described.endswith(
        "For sessions to end by themselves when the gateway stops; 0 for none."
    )


def test_every_key_has_a_description_and_its_default() -> None:
    assert all(key["description"] for key in KEYS.values())
    assert KEYS["workers",]["default"] == "auto"
    assert KEYS["limits", "head_bytes"]["default"] == 32768
    assert KEYS["admin", "address"]["default"] == "127.0.0.1:9935"
    without = {".".join(path) for path, key in KEYS.items() if "default" not in key}
    assert without - {".".join(path) for path in FREE_TEXTS} == {
        *("listener.address", "listener.congestion_control", "log.access", "website.server"),
        *("upstream.source_address", "upstream.tls_authorities"),
        *("upstream.tls_certificate", "upstream.tls_server_name"),
        *("upstream.servers.address", "upstream.name", "upstream.check_application"),
        "route.upstream",
        *("tls.certificate.chain", "tls.certificate.key"),
        *("admin.token_file", "admin.certificate", "admin.client_authorities"),
        *("node.address", "node.certificate", "node.authorities", "peer.node", "peer.address"),
        *("node.public_address", "tunnel.cookie", "cors.origins"),
        *("cross_domain.crossdomain_file", "cross_domain.clientaccesspolicy_file"),
        *("mirror.upstream", "mirror.to_application", "mirror.stream_key_file"),
        *("access.allow", "access.deny", "stream_keys.secrets_file"),
        *("udp.address", "udp.server"),
        *("callback.on_connect", "callback.on_publish", "callback.on_play", "callback.on_done"),
    }
