"""Writing of configurations: read again, the text gives an equal configuration, and it has every key."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from gateway.configuration import loading
from gateway.configuration.writing import document_of, toml_of
from tests.configuration.refusals import LISTENER, load
from tests.helpers.example_configuration import EXAMPLE, enable_all

# Forms that the program keeps in another one.
FORMS = """
    workers = "auto"
    [[listener]]
    address = "[::1]:443"
    tls = true
    trusted = ["10.0.0.0/8", "::1"]
    [[listener]]
    address = "unix:/run/a \\"b\\".sock"
    [[listener]]
    address = "systemd:http"
    [[tls.certificate]]
    chain = "/a.pem"
    key = "/b.pem"
    [[tls.certificate]]
    chain = "/c.pem"
    key = "/d.pem"
    [[upstream]]
    servers = ["media", "[::1]:1936"]
    [[upstream]]
    servers = ["other:1"]
    [website]
    server = "127.0.0.1"
    [tunnel]
    latency = "high"
    streamed_answers = "never"
    [admin]
    hosts = ["Admin.Example.org"]
    [limits]
    head_s = 3
    buffers_share = 1e-7
"""


@pytest.mark.parametrize(
    "text",
    [LISTENER, FORMS, EXAMPLE.read_text(), enable_all(EXAMPLE.read_text())],
    ids=["least", "forms", "example", "everything"],
)
def test_a_written_configuration_is_read_back_as_equal(file: Path, text: str) -> None:
    config = load(file, text)
    again = loading.from_text("again", toml_of(config))
    assert again == config
    assert toml_of(again) == toml_of(config)


def test_each_key_has_the_same_value_as_in_the_example(file: Path) -> None:
    """With every setting enabled, no key is left out, and none has another form."""
    text = enable_all(EXAMPLE.read_text())
    document: dict[str, Any] = tomllib.loads(text)
    # The second listener is the one that has all keys.
    document["listener"] = document["listener"][1:]
    document["tunnel"]["latency"] = 0.25
    # The first rule has all keys but deny.
    document["access"] = document["access"][:1]
    # The first upstream has all keys but those for TLS (the second has them) and of servers (the third).
    first, second, third = document["upstream"]
    own = {key: third["servers"][0][key] for key in ("weight", "backup", "max_sessions")}
    unique = ("name", "check_application", "source_address")
    common = {key: value for key, value in first.items() if key not in unique}
    common["tls_verify"] = True
    for upstream in (first, second):
        upstream["servers"] = [{"address": upstream["servers"][0], **own}]
    document["upstream"] = [{**common, **each} for each in (first, second, third)]
    written = tomllib.loads(toml_of(load(file, text)))
    written["listener"] = written["listener"][1:]
    written["access"] = written["access"][:1]
    assert written == document


def test_tables_have_headers_and_keys_that_are_not_set_are_named(file: Path) -> None:
    lines = toml_of(load(file, FORMS)).splitlines()
    assert [line for line in lines if line.startswith("#")] == [
        '# Not set: [[listener]] 1, key "congestion_control"',
        '# Not set: [[listener]] 2, key "congestion_control"',
        '# Not set: [[listener]] 3, key "congestion_control"',
        *(
            f'# Not set: [[upstream]] {number}, key "{key}"'
            for number in (1, 2)
            for key in (
                *("name", "check_application", "source_address", "tls_authorities"),
                *("tls_certificate", "tls_server_name"),
            )
        ),
        "# Not set: [stream_keys]",
        "# Not set: [callback]",
        '# Not set: [tunnel], key "cookie"',
        "# Not set: [cross_domain]",
        "# Not set: [cors]",
        '# Not set: [admin], key "token_file"',
        '# Not set: [admin], key "certificate"',
        '# Not set: [admin], key "client_authorities"',
        '# Not set: [node], key "address"',
        '# Not set: [node], key "certificate"',
        '# Not set: [node], key "authorities"',
        '# Not set: [node], key "public_address"',
        '# Not set: [log], key "access"',
    ]
    headers = [line for line in lines if line.startswith("[")]
    assert headers[:10] == [
        *["[[listener]]"] * 3,
        *("[[upstream]]", "[[upstream.servers]]", "[[upstream.servers]]"),
        *("[[upstream]]", "[[upstream.servers]]"),
        "[tls]",
        "[[tls.certificate]]",
    ]


def test_the_json_document_has_plain_values_and_null_for_keys_that_are_not_set(file: Path) -> None:
    document = json.loads(json.dumps(document_of(load(file, FORMS))))
    assert document["website"] == {"server": "127.0.0.1:80"}
    assert document["admin"]["token_file"] is None
    assert document["workers"] == "auto"
    assert "source" not in document
