"""The configuration: what is accepted, what is refused, and in which words."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import config
from gateway.addresses import ServerAddress, SystemdAddress, TcpAddress, UnixAddress
from gateway.config import Config, Listener, Upstream
from gateway.errors import ConfigurationError
from gateway.protocols.limits import Limits

# As DESIGN.md has it, to the letter.
EXAMPLE = """
    [[listener]]
    address = "0.0.0.0:80"            # also "[::]:80", "systemd:NAME"

    [[listener]]
    address = "0.0.0.0:443"
    tls = true
    [tls]
    certificates = ["/etc/rtmpt-gateway/tls/site.pem"]     # chain and key, by SNI

    [[upstream]]
    servers = ["127.0.0.1:1935"]

    [website]                          # other HTTP on the same ports goes here
    server = "127.0.0.1:8134"

    [tunnel]
    latency = "low"                    # how long an idle is held: low, medium, high, or seconds; 0 never
    [admin]
    address = "127.0.0.1:9935"         # /metrics /metrics/sessions /healthz /readyz /sessions /
"""
LISTENER = '[[listener]]\naddress = "127.0.0.1:80"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gateway.toml"


def read(file: Path, text: str | bytes) -> Config:
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return config.from_file(file)


def problems(file: Path, text: str | bytes) -> list[str]:
    """The lines of the refusal, without the file's name, which each must begin with, and the number of
    the line in the file."""
    with pytest.raises(ConfigurationError) as refusal:
        read(file, text)
    lines = str(refusal.value).split("\n")
    assert all(line.startswith(f"{file}: ") for line in lines)
    return [re.sub(r"^line \d+: ", "", line.removeprefix(f"{file}: ")) for line in lines]


# --- What is accepted ---


def test_the_designs_example_is_read_as_it_stands(file: Path) -> None:
    assert read(file, EXAMPLE) == Config(
        listeners=(
            Listener(TcpAddress("0.0.0.0", 80)),
            Listener(TcpAddress("0.0.0.0", 443), tls=True),
        ),
        upstreams=(Upstream((ServerAddress("127.0.0.1", 1935),)),),
        tls=config.Tls(("/etc/rtmpt-gateway/tls/site.pem",)),
        website=config.Website(ServerAddress("127.0.0.1", 8134)),
        tunnel=config.Tunnel(hold_s=0.25),
        admin=config.Admin(TcpAddress("127.0.0.1", 9935)),
    )


def test_a_listener_is_all_that_must_be_said(file: Path) -> None:
    read_config = read(file, LISTENER)
    assert read_config == Config(listeners=(Listener(TcpAddress("127.0.0.1", 80)),))
    assert read_config.upstreams == ()  # the embedded origin
    assert read_config.website is None
    assert read_config.admin is None
    assert read_config.node.id == "00"
    assert read_config.limits == Limits()


def test_a_listener_says_where_and_for_whom(file: Path) -> None:
    text = """
        [[listener]]
        address = "systemd:http"
        proxy_protocol = true
        trusted = ["10.0.0.0/8", "::1"]
        allow = ["0.0.0.0/0"]
        deny = ["192.0.2.7"]
        [[listener]]
        address = "unix:/run/http.sock"
        trusted = ["10.0.0.0/8"]
    """
    assert read(file, text).listeners == (
        Listener(
            SystemdAddress("http"),
            proxy_protocol=True,
            trusted=(ip_network("10.0.0.0/8"), ip_network("::1")),
            allow=(ip_network("0.0.0.0/0"),),
            deny=(ip_network("192.0.2.7"),),
        ),
        Listener(UnixAddress("/run/http.sock"), trusted=(ip_network("10.0.0.0/8"),)),
    )


@pytest.mark.parametrize(
    ("latency", "hold_s"),
    [('"low"', 0.25), ('"medium"', 0.5), ('"high"', 2.0), ("0", 0.0), ("1.5", 1.5), ("4", 4.0)],
)
def test_a_latency_is_a_name_or_seconds(file: Path, latency: str, hold_s: float) -> None:
    assert read(file, f"{LISTENER}[tunnel]\nlatency = {latency}").tunnel.hold_s == hold_s


def test_several_upstreams_are_read_in_their_order(file: Path) -> None:
    text = LISTENER + ('[[upstream]]\nservers = ["a", "[::1]:1936"]\n[[upstream]]\nservers = ["b"]')
    servers = [[str(each) for each in upstream.servers] for upstream in read(file, text).upstreams]
    assert servers == [["a:1935", "[::1]:1936"], ["b:1935"]]


def test_a_limit_is_changed_alone_and_a_whole_number_is_a_time_too(file: Path) -> None:
    limits = read(file, f"{LISTENER}[limits]\nhead_s = 3\nsessions = 5").limits
    assert limits == attrs.evolve(Limits(), head_s=3.0, sessions=5)
    assert isinstance(limits.head_s, float)


def test_the_system_may_choose_the_port_of_several_listeners(file: Path) -> None:
    text = '[[listener]]\naddress = "127.0.0.1:0"\n' * 2
    assert len(read(file, text).listeners) == 2


def test_a_byte_order_mark_is_no_syntax_error(file: Path) -> None:
    assert read(file, b"\xef\xbb\xbf" + LISTENER.encode())


@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:1", "unix:/run/admin.sock"])
def test_the_admin_server_listens_where_only_this_machine_reaches(file: Path, address: str) -> None:
    admin = read(file, f'{LISTENER}[admin]\naddress = "{address}"').admin
    assert admin is not None
    assert str(admin.address) == address


@pytest.mark.parametrize(
    "keys",
    [
        'address = "0.0.0.0:9935"\ntoken_file = "/etc/token"',
        'address = "systemd:admin"\ntoken_file = "/etc/token"',
        'address = "0.0.0.0:9935"\ncertificate = "/c.pem"\nclient_authorities = "/a.pem"',
    ],
)
def test_the_admin_server_is_open_to_others_who_show_something(file: Path, keys: str) -> None:
    admin = read(file, f"{LISTENER}[admin]\n{keys}").admin
    assert admin is not None
    assert not admin.is_private


def test_the_admin_servers_names_are_as_browsers_write_them(file: Path) -> None:
    admin = read(file, f'{LISTENER}[admin]\nhosts = ["Admin.Example.org", "[::1]"]').admin
    assert admin is not None
    assert admin.hosts == ("admin.example.org", "[::1]")


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Config().upstreams = ()  # type: ignore[misc]


# --- What is refused: a key by itself ---


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            '[[listener]]\nadress = "0:80"',
            '[[listener]] 1, key "adress": unknown key; did you mean',
        ),
        (f"{LISTENER}[[listener]]\n", '[[listener]] 2, key "address": missing; it has no default'),
        (f"{LISTENER}tls = 1", '[[listener]] 1, key "tls": 1: expected true or false'),
        (f'{LISTENER}allow = "::1"', '[[listener]] 1, key "allow": "::1": expected a list in [ ]'),
        (
            f'{LISTENER}deny = ["::1", "x"]',
            '[[listener]] 1, key "deny", item 2: "x": expected a network such as',
        ),
        (
            '[[listener]]\naddress = "80"',
            '[[listener]] 1, key "address": "80": expected an address',
        ),
        ('[listener]\naddress = "127.0.0.1:80"', "[listener]: written with [ ], but there can be"),
        (f"{LISTENER}[[tunnel]]\n", "[tunnel]: written with [[ ]], but there can be only one"),
        (f"port = 80\n{LISTENER}", "[port]: unknown key; known here: listener, upstream, tls,"),
        (f"limits = 5\n{LISTENER}", "[limits]: 5: expected a table"),
        (f"{LISTENER}[[upstream]]\nservers = []", '[[upstream]] 1, key "servers": empty; name at'),
        (f"{LISTENER}[[upstream]]\n", '[[upstream]] 1, key "servers": missing'),
        (
            f'{LISTENER}[[upstream]]\nservers = ["a:b"]',
            '[[upstream]] 1, key "servers", item 1: "a:b": port "b" is not a number up to 65535',
        ),
        (
            f'{LISTENER}[[upstream]]\nservers = ["a"]\nname = "b"',
            '[[upstream]] 1, key "name": unknown key; known here: servers',
        ),
        (
            f'{LISTENER}[[upstream]]\nservers = ["rtmp://media.example.org/live"]',
            '[[upstream]] 1, key "servers", item 1: "rtmp://media.example.org/live": leave out "rtmp:',
        ),
        (f"{LISTENER}[website]\n", '[website], key "server": missing'),
        (
            f'{LISTENER}[website]\nserver = "http://x"',
            '[website], key "server": "http://x": leave out "http://"',
        ),
        (f'{LISTENER}[tls]\ncertificates = "a"', '[tls], key "certificates": "a": expected a list'),
        (
            f"{LISTENER}[tls]\ncertificates = [1]",
            '[tls], key "certificates", item 1: 1: expected a',
        ),
        (
            f'{LISTENER}[tls]\ncertificates = ["/a.pem", "b.pem"]',
            '[tls], key "certificates", item 2: "b.pem": expected a path from the root',
        ),
        (
            f'{LISTENER}tls = true\n[[tls.certificate]]\nchain = "/a.pem"',
            '[[tls.certificate]] 1, key "key": missing; it has no default',
        ),
        (
            f'{LISTENER}tls = true\n[[tls.certificate]]\nchain = "/a.pem"\nkey = "b.pem"',
            '[[tls.certificate]] 1, key "key": "b.pem": expected a path from the root',
        ),
        (
            f'{LISTENER}tls = true\n[[tls.certificate]]\nchian = "/a.pem"\nkey = "/b.pem"',
            '[[tls.certificate]] 1, key "chian": unknown key; did you mean "chain"?',
        ),
        (
            f'{LISTENER}tls = true\n[tls.certificate]\nchain = "/a.pem"\nkey = "/b.pem"',
            '[tls], key "certificate": written with [ ], but there can be several',
        ),
        (
            f'{LISTENER}[tls]\ncertificates = [""]',
            '[tls], key "certificates", item 1: "": expected a path from the root',
        ),
        (f'{LISTENER}[tunnel]\nlatency = "lo"', '[tunnel], key "latency": "lo": expected "low",'),
        (f"{LISTENER}[tunnel]\nlatency = 5", '[tunnel], key "latency": 5: expected "low", '),
        (f"{LISTENER}[tunnel]\nlatency = -1", '[tunnel], key "latency": -1: expected'),
        (f"{LISTENER}[tunnel]\nlatency = nan", '[tunnel], key "latency": NaN: expected'),
        (f"{LISTENER}[tunnel]\nlatency = true", '[tunnel], key "latency": true: expected'),
        (
            f'{LISTENER}[admin]\naddress = "0.0.0.0:9935"',
            '[admin], key "address": "0.0.0.0:9935": open to others; use "127.0.0.1:PORT"',
        ),
        (
            f'{LISTENER}[admin]\naddress = "systemd:admin"',
            '[admin], key "address": "systemd:admin": open to others; use',
        ),
        (
            f'{LISTENER}[admin]\naddress = "0.0.0.0:1"\ncertificate = "/c.pem"',
            '[admin], key "address": "0.0.0.0:1": open to others; use',
        ),
        (
            f'{LISTENER}[admin]\nclient_authorities = "/a.pem"',
            '[admin], key "client_authorities": clients show certificates in TLS alone',
        ),
        (
            f'{LISTENER}[admin]\naddress = "127.0.0.1:80"',
            '[admin], key "address": "127.0.0.1:80" is taken by a listener, [[listener]] 1; use',
        ),
        (
            f'{LISTENER}[admin]\nhosts = ["name:80"]',
            '[admin], key "hosts": "name:80": expected a name without a port',
        ),
        (
            f'{LISTENER}[admin]\nhosts = "name"',
            '[admin], key "hosts": "name": expected a list',
        ),
        (
            f'{LISTENER}[admin]\ntoken_file = "token"',
            '[admin], key "token_file": "token": expected a path from the root',
        ),
        (
            f'{LISTENER}[admin]\ntoken_file = "/to\\nken"',
            '[admin], key "token_file": "/to\\nken": expected a path from the root',
        ),
        (f'source = "x"\n{LISTENER}', "[source]: unknown key; known here: listener,"),
        (f'{LISTENER}[log]\nlevel = "loud"', '[log], key "level": "loud": expected "debug"'),
        (f'{LISTENER}[node]\nid = "AA"', '[node], key "id": "AA": expected two of 0-9 and a-z'),
        (f"{LISTENER}[node]\nid = 10", '[node], key "id": 10: expected two of 0-9 and a-z'),
        (f'{LISTENER}[limits]\nhead_s = "1"', '[limits], key "head_s": "1": expected a number'),
        (f"{LISTENER}[limits]\nhead_s = 0", '[limits], key "head_s": must be > 0'),
        (
            f"{LISTENER}[limits]\nhead_s = inf",
            '[limits], key "head_s": Infinity: expected a finite',
        ),
        (f"{LISTENER}[limits]\nhead_s = true", '[limits], key "head_s": true: expected a number'),
        (f"{LISTENER}[limits]\nsessions = 1.0", '[limits], key "sessions": 1.0: expected a whole'),
        (f"{LISTENER}[limits]\nsessions = 0", '[limits], key "sessions": must be >= 1'),
        (
            f"{LISTENER}[limits]\nhed_s = 1",
            '[limits], key "hed_s": unknown key; did you mean "head_s',
        ),
        # What an operator wrote may not draw on the operator's terminal.
        (
            f'{LISTENER}[node]\n"\\u001b\\n" = 1',
            '[node], key "\\u001b\\n": unknown key; known here',
        ),
    ],
)
def test_a_bad_key_is_one_line_with_its_place(file: Path, text: str, problem: str) -> None:
    (line,) = problems(file, text)
    assert line.startswith(problem)


def test_all_problems_are_told_at_once_in_the_order_of_the_tables(file: Path) -> None:
    text = """
        [limits]
        head_s = -1
        sessions = "many"
        [[listener]]
        address = "x"
        tls = "yes"
        [[listener]]
        address = "127.0.0.1:80"
        colour = 1
    """
    places = [line.partition(": ")[0] for line in problems(file, text)]
    assert places == [
        '[[listener]] 1, key "address"',
        '[[listener]] 1, key "tls"',
        '[[listener]] 2, key "colour"',
        '[limits], key "head_s"',
        '[limits], key "sessions"',
    ]


# --- What is refused: keys together ---


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no [[listener]]; add one with its address"),
        (
            LISTENER + LISTENER,
            '[[listener]] 2, key "address": "127.0.0.1:80" is taken by an earlier listener',
        ),
        (
            f'[[listener]]\naddress = "0.0.0.0:80"\n{LISTENER}',
            '[[listener]] 2, key "address": "127.0.0.1:80" overlaps "0.0.0.0:80", which is taken by an ear',
        ),
        (
            f'{LISTENER}[[listener]]\naddress = "[::]:80"\n[[listener]]\naddress = "[::1]:80"',
            '[[listener]] 3, key "address": "[::1]:80" overlaps "[::]:80", which is taken by an earlier',
        ),
        (
            '[[listener]]\naddress = "0.0.0.0:80"\n[admin]\naddress = "127.0.0.1:80"',
            '[admin], key "address": "127.0.0.1:80" overlaps "0.0.0.0:80", which is taken by a listener, [',
        ),
        (
            f"{LISTENER}tls = true",
            '[[listener]] 1, key "tls": needs a certificate; name one in [tls]',
        ),
        (
            f"{LISTENER}proxy_protocol = true",
            '[[listener]] 1, key "proxy_protocol": needs to know whom to believe',
        ),
        (
            LISTENER + '[[upstream]]\nservers = ["a"]\n[[upstream]]\nservers = ["b", "a:1935"]',
            '[[upstream]] 2, key "servers", item 2: "a:1935" is named twice',
        ),
        (
            LISTENER + '[[upstream]]\nservers = ["a", "b", "a:1935"]',
            '[[upstream]] 1, key "servers", item 3: "a:1935" is named twice',
        ),
        (
            LISTENER + '[tls]\ncertificates = ["/a"]',
            '[tls], key "certificates": no listener uses them; add tls = true to one',
        ),
        (
            LISTENER + 'tls = true\n[tls]\ncertificates = ["/a", "/a"]',
            '[tls], key "certificates", item 2: "/a" is named twice',
        ),
        (
            LISTENER + '[[tls.certificate]]\nchain = "/a"\nkey = "/b"',
            '[tls], key "certificate": no listener uses them; add tls = true to one',
        ),
        (
            LISTENER + "tls = true\n" + 2 * '[[tls.certificate]]\nchain = "/a"\nkey = "/b"\n',
            '[[tls.certificate]] 2, key "chain": "/a" is named twice; remove one',
        ),
        (f"{LISTENER}[limits]\nhead_s = 86401", '[limits], key "head_s": 86401: must be <= 86400'),
        (
            f"{LISTENER}[limits]\nbuffers_share = 25",
            '[limits], key "buffers_share": 25: a share of',
        ),
        (
            f"{LISTENER}[limits]\nbody_bytes = 2000000",
            '[limits], key "body_bytes": 2000000: a body must fit into up_buffer_bytes (1048576)',
        ),
    ],
)
def test_keys_that_contradict_each_other_are_refused(file: Path, text: str, problem: str) -> None:
    (line,) = problems(file, text)
    assert line.startswith(problem)


@pytest.mark.parametrize(
    "addresses",
    [
        ("0.0.0.0:80", "[::]:80", "127.0.0.1:81", "[::1]:82"),
        ("127.0.0.1:80", "127.0.0.2:80", "[::1]:80"),
        ("0.0.0.0:0", "127.0.0.1:0", "0.0.0.0:0"),
    ],
)
def test_listeners_that_can_be_beside_each_other_are_read(
    file: Path, addresses: tuple[str, ...]
) -> None:
    text = "".join(f'[[listener]]\naddress = "{address}"\n' for address in addresses)
    assert tuple(str(each.address) for each in read(file, text).listeners) == addresses


@pytest.mark.parametrize(
    ("written", "example"),
    [
        ('"30s"', "30"),
        ('"30"', "30"),
        ('"1.5 min"', "90"),
        ('"2H"', "7200"),
        ('"500ms"', "0.5"),
        ('"soon"', "30"),
        ('"30 parsecs"', "30"),
        ("true", "30"),
        ("[1]", "30"),
    ],
)
def test_a_time_that_is_no_number_is_answered_with_the_seconds(
    file: Path, written: str, example: str
) -> None:
    (line,) = problems(file, f"{LISTENER}[limits]\ndrain_s = {written}")
    shown = written.replace("[1]", "[1]")
    assert line == (
        f'[limits], key "drain_s": {shown}: expected a number of seconds, such as {example}'
    )


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
    with pytest.raises(ConfigurationError) as refusal:
        read(file, text)
    places = [line.partition('": ')[0] + '"' for line in str(refusal.value).splitlines()]
    assert places == [
        f'{file}: line 7: [[listener]] 1, key "address"',
        f'{file}: line 8: [[listener]] 2, key "address"',
        f'{file}: line 9: [[listener]] 2, key "allow", item 2: "y"',
        f'{file}: line 13: [[listener]] 2, key "tunnel"',
        f'{file}: line 4: [limits], key "sessions"',
    ]


def test_a_key_of_a_long_value_has_no_line_rather_than_a_wrong_one(file: Path) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        read(file, 'listener = [\n  # the first\n  { address = "x" },\n]\n')
    assert str(refusal.value).startswith(f'{file}: [[listener]] 1, key "address": "x": expected')


# --- What is refused: the file ---


def test_a_syntax_error_has_line_and_column(file: Path) -> None:
    (line,) = problems(file, LISTENER + "tls = yes")
    assert line.startswith("line 3, column 7: not TOML: ")


def test_an_unfinished_file_is_a_syntax_error(file: Path) -> None:
    (line,) = problems(file, '[[listener]]\naddress = "')
    assert "not TOML: " in line


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.toml"
    with pytest.raises(ConfigurationError) as refusal:
        config.from_file(path)
    assert str(refusal.value) == f"{path}: cannot be read: No such file or directory"


def test_a_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        config.from_file(tmp_path)
    assert str(refusal.value) == f"{tmp_path}: cannot be read: Is a directory"


def test_what_is_not_utf8_is_named_by_its_line(file: Path) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        read(file, b"a = 1\nb = '\xff'")
    assert str(refusal.value) == f"{file}: line 2: not UTF-8; save it as UTF-8"


def test_an_endless_file_is_not_read_to_its_end() -> None:
    with pytest.raises(ConfigurationError, match="over 1048576 bytes"):
        config.from_file(Path("/dev/zero"))


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "a = " + "9" * 10_000])
def test_a_file_made_to_break_the_reader_is_one_line(file: Path, text: str) -> None:
    assert len(problems(file, text)) == 1


# --- What is found wrong later ---


def late(found: Config, *place: str | int) -> str:
    with pytest.raises(ConfigurationError) as refusal, found.source.at(*place):
        raise ConfigurationError("no luck\nnone at all")
    return str(refusal.value)


def test_what_is_found_wrong_later_is_refused_with_its_place(file: Path) -> None:
    place = f'{file}: line 2: [[listener]] 1, key "address": '
    assert late(read(file, LISTENER), "listener", 0, "address") == (
        f"{place}no luck\n{place}none at all"
    )


def test_what_is_found_wrong_later_with_an_option_names_the_option() -> None:
    found = config.from_options([], ["media"])
    assert late(found, "listener", 0, "address").startswith("command line: --listen: no luck\n")


# --- The command line alone ---


def test_with_nothing_said_the_embedded_origin_serves_on_loopback() -> None:
    assert config.from_options([], []) == Config(
        listeners=(Listener(TcpAddress("127.0.0.1", 8080)),)
    )


def test_listen_and_upstream_may_be_repeated() -> None:
    read_config = config.from_options(["127.0.0.1:1", "[::1]:2"], ["media", "spare:1936"])
    assert [str(listener.address) for listener in read_config.listeners] == [
        "127.0.0.1:1",
        "[::1]:2",
    ]
    (upstream,) = read_config.upstreams
    assert [str(server) for server in upstream.servers] == ["media:1935", "spare:1936"]


def test_a_bad_option_is_one_line_that_names_it() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        config.from_options(["80", "127.0.0.1:1"], ["a:b"])
    first, second = str(refusal.value).split("\n")
    assert first.startswith('command line: --listen: "80": expected an address such as')
    assert second == 'command line: --upstream: "a:b": port "b" is not a number up to 65535'


def test_two_listeners_on_one_address_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r'--listen: "127\.0\.0\.1:1" is taken'):
        config.from_options(["127.0.0.1:1", "127.0.0.1:1"], [])


# --- Whatever is written ---

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
    refusal = ""
    try:
        config.from_document("file", document)
    except ConfigurationError as error:
        refusal = str(error)
    assert all(line.startswith("file: ") and line.isprintable() for line in refusal.splitlines())
