"""Sections of valid configurations, and the refusal of keys that are invalid by themselves."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import attrs
import pytest

from gateway.addresses import ServerAddress, SystemdAddress, TcpAddress, UnixAddress
from gateway.configuration.sections import (
    Admin,
    Config,
    CrossDomain,
    Listener,
    Tls,
    Tunnel,
    Website,
)
from gateway.configuration.upstream_sections import (
    Upstream,
    UpstreamServer,
)
from gateway.protocols.limits import Limits
from tests.configuration.refusals import LISTENER, load, problems

# DESIGN.md, Configuration.
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


# --- Valid keys ---


def test_the_example_of_the_design_is_valid(file: Path) -> None:
    assert load(file, EXAMPLE) == Config(
        listeners=(
            Listener(TcpAddress("0.0.0.0", 80)),
            Listener(TcpAddress("0.0.0.0", 443), tls=True),
        ),
        upstreams=(Upstream((UpstreamServer(ServerAddress("127.0.0.1", 1935)),)),),
        tls=Tls(("/etc/rtmpt-gateway/tls/site.pem",)),
        website=Website(ServerAddress("127.0.0.1", 8134)),
        tunnel=Tunnel(hold_s=0.25),
        admin=Admin(TcpAddress("127.0.0.1", 9935)),
    )


def test_only_a_listener_is_required(file: Path) -> None:
    config = load(file, LISTENER)
    assert config == Config(listeners=(Listener(TcpAddress("127.0.0.1", 80)),))
    assert config.upstreams == ()  # the embedded origin
    assert config.website is None
    assert config.admin is None
    assert config.node.id == "00"
    assert config.limits == Limits()


def test_a_listener_has_an_address_and_its_networks(file: Path) -> None:
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
    assert load(file, text).listeners == (
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
def test_a_latency_can_be_a_name_or_seconds(file: Path, latency: str, hold_s: float) -> None:
    assert load(file, f"{LISTENER}[tunnel]\nlatency = {latency}").tunnel.hold_s == hold_s


def test_several_upstreams_keep_their_order(file: Path) -> None:
    text = LISTENER + ('[[upstream]]\nservers = ["a", "[::1]:1936"]\n[[upstream]]\nservers = ["b"]')
    servers = [[str(each) for each in upstream.servers] for upstream in load(file, text).upstreams]
    assert servers == [["a:1935", "[::1]:1936"], ["b:1935"]]


def test_a_server_is_an_address_or_a_table(file: Path) -> None:
    text = f"""{LISTENER}
        [[upstream]]
        servers = ["a", {{ address = "b:1936", weight = 2, backup = true }}]
        [[upstream]]
        [[upstream.servers]]
        address = "c"
    """
    first, second = load(file, text).upstreams
    assert first.servers == (
        UpstreamServer(ServerAddress("a", 1935)),
        UpstreamServer(ServerAddress("b", 1936), weight=2, backup=True),
    )
    assert second.servers == (UpstreamServer(ServerAddress("c", 1935)),)


def test_a_condition_of_a_route_is_a_value_or_a_list_of_values(file: Path) -> None:
    text = """
        [[listener]]
        address = "127.0.0.1:80"
        [[upstream]]
        servers = ["a"]
        name = "live"
        [[upstream]]
        servers = ["b"]
        [[route]]
        upstream = ["live", "2"]
        listener = "127.0.0.1:80"
        host = ["A.example.org", "*.example.net"]
        client = "10.0.0.0/8"
        [[route]]
        upstream = "2"
    """
    first, second = load(file, text).routes
    assert first.upstreams == ("live", "2")
    assert first.listeners == (TcpAddress("127.0.0.1", 80),)
    assert first.hosts == ("a.example.org", "*.example.net")
    assert first.clients == (ip_network("10.0.0.0/8"),)
    assert (second.upstreams, second.matches_all) == (("2",), True)


def test_a_limit_can_be_changed_alone_and_an_integer_is_a_valid_duration(file: Path) -> None:
    limits = load(file, f"{LISTENER}[limits]\nhead_s = 3\nsessions = 5").limits
    assert limits == attrs.evolve(Limits(), head_s=3.0, sessions=5)
    assert isinstance(limits.head_s, float)


def test_several_listeners_can_have_port_0(file: Path) -> None:
    text = '[[listener]]\naddress = "127.0.0.1:0"\n' * 2
    assert len(load(file, text).listeners) == 2


def test_a_byte_order_mark_is_ignored(file: Path) -> None:
    assert load(file, b"\xef\xbb\xbf" + LISTENER.encode())


@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:1", "unix:/run/admin.sock"])
def test_an_admin_address_of_this_machine_needs_no_authentication(file: Path, address: str) -> None:
    admin = load(file, f'{LISTENER}[admin]\naddress = "{address}"').admin
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
def test_the_admin_server_may_be_reachable_with_authentication(file: Path, keys: str) -> None:
    admin = load(file, f"{LISTENER}[admin]\n{keys}").admin
    assert admin is not None
    assert not admin.is_private


def test_admin_hosts_are_lower_case(file: Path) -> None:
    admin = load(file, f'{LISTENER}[admin]\nhosts = ["Admin.Example.org", "[::1]"]').admin
    assert admin is not None
    assert admin.hosts == ("admin.example.org", "[::1]")


def test_a_configuration_is_immutable() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Config().upstreams = ()  # type: ignore[misc]


@pytest.mark.parametrize(
    ("written", "origin"),
    [
        ("https://A.Example", "https://a.example"),
        ("https://a.example:443", "https://a.example"),
        ("http://a.example:443", "http://a.example:443"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("app-extension://abc", "app-extension://abc"),
        ("*", "*"),
    ],
)
def test_an_origin_is_as_browsers_send_it(file: Path, written: str, origin: str) -> None:
    cors = load(file, f'{LISTENER}[cors]\norigins = ["{written}"]').cors
    assert cors is not None
    assert cors.origins == (origin,)


def test_policy_files_have_domains_and_ports(file: Path) -> None:
    policies = load(file, f'{LISTENER}[cross_domain]\ndomains = ["*", "*.A.example"]').cross_domain
    assert policies == CrossDomain(domains=("*", "*.a.example"), ports=(80, 443, 1935), secure=True)


# --- Invalid keys ---


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            '[[listener]]\nadress = "0:80"',
            '[[listener]] 1, key "adress": unknown key; did you mean',
        ),
        (
            f"{LISTENER}[[listener]]\n",
            '[[listener]] 2, key "address": missing; this key is required',
        ),
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
        (
            '[listener]\naddress = "127.0.0.1:80"',
            "[listener]: several tables are allowed; write [[ ]] inst",
        ),
        (f"{LISTENER}[[tunnel]]\n", "[tunnel]: only one table is allowed; write [ ] instead"),
        (
            f"tcp = 80\n{LISTENER}",
            "[tcp]: unknown key; known keys: workers, listener, upstream, route,",
        ),
        (f"limits = 5\n{LISTENER}", "[limits]: 5: expected a table"),
        (
            f'{LISTENER}[cors]\norigins = ["https://a.example/b"]',
            '[cors], key "origins", item 1: "https://a.example/b": expected the scheme and host of pages',
        ),
        (
            f'{LISTENER}[cors]\norigins = ["null"]',
            '[cors], key "origins", item 1: "null": expected',
        ),
        (f"{LISTENER}[cors]\norigins = []", '[cors], key "origins": empty; list at'),
        (
            f'{LISTENER}[cross_domain]\ndomains = ["a.*"]',
            '[cross_domain], key "domains", item 1: "a.*": expected a host name without a port',
        ),
        (
            f"{LISTENER}[cross_domain]\nports = [0]",
            '[cross_domain], key "ports", item 1: 0: expected a port from 1 to 65535',
        ),
        (
            f'{LISTENER}[tunnel]\ncookie = "a=b"',
            '[tunnel], key "cookie": "a=b": expected at most 64 letters, digits',
        ),
        (
            f'{LISTENER}[node]\npublic_address = "a:80"',
            '[node], key "public_address": "a:80": expected a host name without a port',
        ),
        (f"{LISTENER}[[upstream]]\nservers = []", '[[upstream]] 1, key "servers": empty; list at'),
        (f"{LISTENER}[[upstream]]\n", '[[upstream]] 1, key "servers": missing'),
        (
            f'{LISTENER}[[upstream]]\nservers = ["a:b"]',
            '[[upstream]] 1, key "servers", item 1: "a:b": port "b" is not a number up to 65535',
        ),
        (
            f'{LISTENER}[[upstream]]\nservers = ["a"]\nlabel = "b"',
            '[[upstream]] 1, key "label": unknown key; known keys: servers',
        ),
        (
            f"{LISTENER}[[upstream]]\nservers = [5]",
            '[[upstream]] 1, key "servers", item 1: 5: expected',
        ),
        (
            f'{LISTENER}[[upstream]]\nservers = ["a", {{ weight = 2 }}]',
            '[[upstream]] 1, key "servers", item 2, key "address": missing; this key is required',
        ),
        (
            f'{LISTENER}[[upstream]]\nservers = [{{ address = "a", wieght = 2 }}]',
            '[[upstream]] 1, key "servers", item 1, key "wieght": unknown key; did you mean "weight"?',
        ),
        (
            f'{LISTENER}[[upstream]]\nservers = [{{ address = "a", weight = 0 }}]',
            '[[upstream]] 1, key "servers", item 1, key "weight": must be >= 1: 0',
        ),
        (
            f'{LISTENER}[[upstream]]\nservers = ["a"]\nname = "1"',
            '[[upstream]] 1, key "name": "1": expected at most 32 letters, digits, "-" and "_"',
        ),
        (
            f'{LISTENER}[[upstream]]\nservers = ["rtmp://media.example.org/live"]',
            '[[upstream]] 1, key "servers", item 1: "rtmp://media.example.org/live": leave out the pat',
        ),
        (
            f'{LISTENER}[[upstream]]\nservers = ["a"]\nsource_address = "10.0.0.5:1"',
            '[[upstream]] 1, key "source_address": "10.0.0.5:1": expected an IP address without a port',
        ),
        (
            f'{LISTENER}[[upstream]]\nservers = ["rtmps://a"]\ntls_server_name = "a..b"',
            '[[upstream]] 1, key "tls_server_name": "a..b": expected a host name or IP address without',
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
            '[tls], key "certificates", item 2: "b.pem": expected an absolute path',
        ),
        (
            f'{LISTENER}tls = true\n[[tls.certificate]]\nchain = "/a.pem"',
            '[[tls.certificate]] 1, key "key": missing; this key is required',
        ),
        (
            f'{LISTENER}tls = true\n[[tls.certificate]]\nchain = "/a.pem"\nkey = "b.pem"',
            '[[tls.certificate]] 1, key "key": "b.pem": expected an absolute path',
        ),
        (
            f'{LISTENER}tls = true\n[[tls.certificate]]\nchian = "/a.pem"\nkey = "/b.pem"',
            '[[tls.certificate]] 1, key "chian": unknown key; did you mean "chain"?',
        ),
        (
            f'{LISTENER}tls = true\n[tls.certificate]\nchain = "/a.pem"\nkey = "/b.pem"',
            '[tls], key "certificate": several tables are allowed; write [[ ]]',
        ),
        (
            f'{LISTENER}[tls]\ncertificates = [""]',
            '[tls], key "certificates", item 1: "": expected an absolute path',
        ),
        (f'{LISTENER}[tunnel]\nlatency = "lo"', '[tunnel], key "latency": "lo": expected "low",'),
        (f"{LISTENER}[tunnel]\nlatency = 5", '[tunnel], key "latency": 5: expected "low", '),
        (f"{LISTENER}[tunnel]\nlatency = -1", '[tunnel], key "latency": -1: expected'),
        (f"{LISTENER}[tunnel]\nlatency = nan", '[tunnel], key "latency": NaN: expected'),
        (f"{LISTENER}[tunnel]\nlatency = true", '[tunnel], key "latency": true: expected'),
        (
            f'{LISTENER}[admin]\nhosts = ["name:80"]',
            '[admin], key "hosts", item 1: "name:80": expected a host name without a port',
        ),
        (
            f'{LISTENER}[admin]\nhosts = "name"',
            '[admin], key "hosts": "name": expected a list',
        ),
        (
            f'{LISTENER}[admin]\ntoken_file = "token"',
            '[admin], key "token_file": "token": expected an absolute path',
        ),
        (
            f'{LISTENER}[admin]\ntoken_file = "/to\\nken"',
            '[admin], key "token_file": "/to\\nken": expected an absolute path',
        ),
        (f'source = "x"\n{LISTENER}', "[source]: unknown key; known keys: workers, listener,"),
        (f'{LISTENER}[log]\nlevel = "loud"', '[log], key "level": "loud": expected "debug"'),
        (
            f'{LISTENER}[node]\nid = "AA"',
            '[node], key "id": "AA": expected two characters of 0-9 and a-z',
        ),
        (
            f"{LISTENER}[node]\nid = 10",
            '[node], key "id": 10: expected two characters of 0-9 and a-z',
        ),
        (f'{LISTENER}[limits]\nhead_s = "1"', '[limits], key "head_s": "1": expected a number'),
        (f"{LISTENER}[limits]\nhead_s = 0", '[limits], key "head_s": must be > 0'),
        (
            f"{LISTENER}[limits]\nhead_s = inf",
            '[limits], key "head_s": Infinity: expected a finite',
        ),
        (f"{LISTENER}[limits]\nhead_s = true", '[limits], key "head_s": true: expected a number'),
        (f"{LISTENER}[limits]\nsessions = 1.0", '[limits], key "sessions": 1.0: expected an int'),
        (f"{LISTENER}[limits]\nsessions = 0", '[limits], key "sessions": must be >= 1'),
        (
            f"{LISTENER}[limits]\nhed_s = 1",
            '[limits], key "hed_s": unknown key; did you mean "head_s',
        ),
        (
            f'{LISTENER}[[access]]\nclients = ["10.0.0.0/8"]',
            '[[access]] 1: expected either "allow" or "deny"',
        ),
        (
            f'{LISTENER}[[access]]\nallow = "play"\ndeny = "play"',
            '[[access]] 1: expected either "allow" or "deny"',
        ),
        (
            f'{LISTENER}[[access]]\ndeny = "connect"\nstream = "x"',
            '[[access]] 1, key "stream": a connect has no stream; leave it out',
        ),
        (
            f'{LISTENER}[[access]]\ndeny = "all"\napplication = "/live"',
            '[[access]] 1, key "application": "/live": expected a name or a pattern',
        ),
        (
            f'{LISTENER}[[mirror]]\nupstream = "x"',
            '[[mirror]] 1, key "upstream": no [[upstream]] has the name "x"; add name',
        ),
        (
            f'{LISTENER}[[upstream]]\nname = "x"\nservers = ["h"]\n'
            + '[[mirror]]\nupstream = "x"\n' * 2,
            '[[mirror]] 2, key "upstream": "x" has another mirror',
        ),
        (
            (
                f'workers = 2\n{LISTENER}[[upstream]]\nname = "x"\nservers = ["h"]\n'
                '[[mirror]]\nupstream = "x"'
            ),
            "[workers]: the embedded origin runs in one worker only",
        ),
        (
            f'{LISTENER}[[mirror]]\nupstream = "x"\nto_application = "/live"',
            '[[mirror]] 1, key "to_application": "/live": expected the name',
        ),
        (
            f'{LISTENER}[port_test]\npublic_ports = ["80"]',
            '[port_test], key "public_ports", item 1: "80": expected "http:PORT" or "https:PORT"',
        ),
        (
            f'{LISTENER}[port_test]\npublic_ports = ["https:65536"]',
            '[port_test], key "public_ports", item 1: "https:65536": expected "http:PORT" or',
        ),
        (
            f'{LISTENER}[port_test]\npublic_ports = ["http:80", "http:80"]',
            '[port_test], key "public_ports", item 2: "http:80" is listed twice; remove one',
        ),
        (
            f"{LISTENER}[port_test]\npublic_ports = {[f'http:{port}' for port in range(1, 18)]}",
            '[port_test], key "public_ports": more than 16 ports; remove some',
        ),
        (f"{LISTENER}[stream_keys]", '[stream_keys], key "secrets_file": missing'),
        (f"{LISTENER}[callback]", "[callback]: no URL; set on_connect, on_publish"),
        (
            f'{LISTENER}[callback]\non_play = "127.0.0.1:80"',
            '[callback], key "on_play": "127.0.0.1:80": expected a URL, such as',
        ),
        (
            f'{LISTENER}[callback]\non_play = "http://user:word@h/"',
            '[callback], key "on_play": "http://user:word@h/": expected a URL, such as',
        ),
        (
            f'{LISTENER}[callback]\non_play = "http://h/"\ntimeout_s = 5\n[limits]\nstalled_write_s = 5',
            '[callback], key "timeout_s": 5: must be less than [limits] stalled_write_s',
        ),
        (
            f'{LISTENER}[callback]\non_done = "http://h/"\n[telemetry]\nenabled = false',
            '[callback], key "on_done": requires telemetry',
        ),
        # Control characters from the file must not reach the operator's terminal.
        (
            f'{LISTENER}[node]\n"\\u001b\\n" = 1',
            '[node], key "\\u001b\\n": unknown key; known keys',
        ),
    ],
)
def test_an_invalid_key_is_one_line_with_its_place(file: Path, text: str, problem: str) -> None:
    (line,) = problems(file, text)
    assert line.startswith(problem)


def test_all_problems_are_reported_together_in_the_order_of_the_tables(file: Path) -> None:
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
def test_a_duration_with_a_unit_is_refused_with_the_number_of_seconds(
    file: Path, written: str, example: str
) -> None:
    (line,) = problems(file, f"{LISTENER}[limits]\ndrain_s = {written}")
    shown = written.replace("[1]", "[1]")
    assert line == (
        f'[limits], key "drain_s": {shown}: expected a number of seconds, such as {example}'
    )
