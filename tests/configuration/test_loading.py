"""Loading from a file and from options: what cannot be parsed, and the line of each problem."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.addresses import TcpAddress
from gateway.configuration import loading
from gateway.configuration.sections import (
    Config,
    Listener,
)
from gateway.configuration.upstream_sections import (
    Upstream,
)
from gateway.errors import ConfigurationError
from gateway.protocols.limits import Limits
from tests.configuration.refusals import LISTENER, load, problems, refusal

# --- The line of each problem ---


def test_each_problem_has_the_line_of_its_key(file: Path) -> None:
    text = """
        # A comment, and a [table] in it.
        [limits]
        sessions = "many"

        [[listener]]
        address = "x"
        [[listener]]
        allow = [
            "::1",
            "y",
        ]
        tunnel.latency = 1
    """
    places = [line.partition('": ')[0] + '"' for line in refusal(file, text).splitlines()]
    assert places == [
        f'{file}: line 7: [[listener]] 1, key "address"',
        f'{file}: line 8: [[listener]] 2, key "address"',
        f'{file}: line 9: [[listener]] 2, key "allow", item 2: "y"',
        f'{file}: line 13: [[listener]] 2, key "tunnel"',
        f'{file}: line 4: [limits], key "sessions"',
    ]


def test_a_key_inside_a_value_of_several_lines_has_no_line(file: Path) -> None:
    text = 'listener = [\n  # the first\n  { address = "x" },\n]\n'
    assert refusal(file, text).startswith(f'{file}: [[listener]] 1, key "address": "x": expected')


# --- Files that cannot be parsed ---


def test_a_syntax_error_has_line_and_column(file: Path) -> None:
    (line,) = problems(file, LISTENER + "tls = yes")
    assert line.startswith("line 3, column 7: not TOML: ")


def test_an_unfinished_file_is_a_syntax_error(file: Path) -> None:
    (line,) = problems(file, '[[listener]]\naddress = "')
    assert "not TOML: " in line


def test_a_missing_file_is_refused_with_one_line(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.toml"
    with pytest.raises(ConfigurationError) as refused:
        loading.from_file(path)
    assert str(refused.value) == f"{path}: cannot be read: No such file or directory"


def test_a_directory_is_refused_with_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        loading.from_file(tmp_path)
    assert str(refused.value) == f"{tmp_path}: cannot be read: Is a directory"


def test_invalid_utf8_is_refused_with_its_line(file: Path) -> None:
    line = refusal(file, b"a = 1\nb = '\xff'")
    assert line == f"{file}: line 2: not UTF-8; save it as UTF-8"


def test_reading_stops_at_the_size_limit() -> None:
    with pytest.raises(ConfigurationError, match="over 1048576 bytes"):
        loading.from_file(Path("/dev/zero"))


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "a = " + "9" * 10_000])
def test_a_hostile_file_is_refused_with_one_line(file: Path, text: str) -> None:
    assert len(problems(file, text)) == 1


# --- Problems that are found later ---


def found_later(found: Config, *place: str | int) -> str:
    with pytest.raises(ConfigurationError) as refused, found.source.at(*place):
        raise ConfigurationError("no luck\nnone at all")
    return str(refused.value)


def test_a_problem_found_after_loading_has_the_line_of_its_key(file: Path) -> None:
    place = f'{file}: line 2: [[listener]] 1, key "address": '
    assert found_later(load(file, LISTENER), "listener", 0, "address") == (
        f"{place}no luck\n{place}none at all"
    )


def test_a_problem_found_after_loading_names_the_option() -> None:
    found = loading.from_options([], ["media"])
    assert found_later(found, "listener", 0, "address").startswith(
        "command line: --listen: no luck\n"
    )


# --- Options of the command line ---


def test_without_options_the_embedded_origin_serves_on_loopback() -> None:
    assert loading.from_options([], []) == Config(
        listeners=(Listener(TcpAddress("127.0.0.1", 8080)),)
    )


def test_listen_and_upstream_can_be_repeated() -> None:
    config = loading.from_options(["127.0.0.1:1", "[::1]:2"], ["media", "spare:1936"])
    assert [str(listener.address) for listener in config.listeners] == [
        "127.0.0.1:1",
        "[::1]:2",
    ]
    (upstream,) = config.upstreams
    assert [str(server) for server in upstream.servers] == ["media:1935", "spare:1936"]


def test_an_invalid_option_is_one_line_that_names_it() -> None:
    with pytest.raises(ConfigurationError) as refused:
        loading.from_options(["80", "127.0.0.1:1"], ["a:b"])
    first, second = str(refused.value).split("\n")
    assert first.startswith('command line: --listen: "80": expected an address such as')
    assert second == 'command line: --upstream: "a:b": port "b" is not a number up to 65535'


def test_two_listeners_on_one_address_are_refused() -> None:
    with pytest.raises(
        ConfigurationError, match=r'--listen: "127\.0\.0\.1:1" is already used by listener 1'
    ):
        loading.from_options(["127.0.0.1:1", "127.0.0.1:1"], [])


# --- Random documents ---

KEYS = st.sampled_from(
    [key for kind in (Config, Listener, Upstream, Limits) for key in attrs.fields_dict(kind)]
    + ["listener", "upstream", "tls", "certificate", "certificates", "chain", "key"]
    + ["server", "latency", "address", "id"]
)
TEXTS = st.text("az09:.[]\n\x1b\x9b\u2028é", max_size=8)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS)
DOCUMENTS: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | TEXTS, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(KEYS | TEXTS, DOCUMENTS, max_size=6))
def test_any_document_is_a_configuration_or_a_list_of_problems(document: dict[str, Any]) -> None:
    lines = ""
    try:
        loading.from_document("file", document)
    except ConfigurationError as error:
        lines = str(error)
    assert all(line.startswith("file: ") and line.isprintable() for line in lines.splitlines())
