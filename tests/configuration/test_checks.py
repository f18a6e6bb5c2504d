"""Checks of keys against each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.configuration.refusals import LISTENER, load, problems

# A relay of datagrams.
UDP = f'{LISTENER}[[udp]]\naddress = "127.0.0.1:1935"\nserver = "a"\n'
# A mirror that is reached by RTMPE.
MIRROR = '[[upstream]]\nname = "b"\nservers = ["rtmpe://b"]\n[[mirror]]\nupstream = "b"\n'
# A route without conditions.
ROUTE = f'{LISTENER}[[upstream]]\nservers = ["a"]\n[[route]]\nupstream = "1"\n'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no [[listener]]; add one with its address"),
        (
            LISTENER + LISTENER,
            '[[listener]] 2, key "address": "127.0.0.1:80" is already used by listener 1; use',
        ),
        (
            f'[[listener]]\naddress = "0.0.0.0:80"\n{LISTENER}',
            '[[listener]] 2, key "address": "127.0.0.1:80" overlaps "0.0.0.0:80" of listener 1; use',
        ),
        (
            f'{LISTENER}[[listener]]\naddress = "[::]:80"\n[[listener]]\naddress = "[::1]:80"',
            '[[listener]] 3, key "address": "[::1]:80" overlaps "[::]:80" of listener 2; use',
        ),
        (
            '[[listener]]\naddress = "0.0.0.0:80"\n[admin]\naddress = "127.0.0.1:80"',
            '[admin], key "address": "127.0.0.1:80" overlaps "0.0.0.0:80" of listener 1; use',
        ),
        (
            f"{LISTENER}tls = true",
            '[[listener]] 1, key "tls": requires a certificate; add one in [tls]',
        ),
        (
            f"{LISTENER}proxy_protocol = true",
            '[[listener]] 1, key "proxy_protocol": requires "trusted"; list',
        ),
        (
            LISTENER + '[[upstream]]\nservers = ["a"]\n[[upstream]]\nservers = ["b", "a:1935"]',
            '[[upstream]] 2, key "servers", item 2: "a:1935" is listed twice',
        ),
        (
            LISTENER
            + '[[upstream]]\nservers = ["a"]\nname = "live"\n'
            + '[[upstream]]\nservers = ["b"]\nname = "live"\n',
            '[[upstream]] 2, key "name": "live" is the name of two upstreams; change one',
        ),
        (
            LISTENER + f"[[upstream]]\nservers = {[f'm{number}' for number in range(257)]}",
            '[[upstream]] 1, key "servers", item 257: too many; at most 256 servers are possible',
        ),
        (
            UDP + UDP.removeprefix(LISTENER),
            '[[udp]] 2, key "address": "127.0.0.1:1935" overlaps "127.0.0.1:1935" of [[udp]] 1',
        ),
        (
            UDP + "queued_bytes = 4096\ndatagram_bytes = 9000",
            '[[udp]] 1, key "queued_bytes": 4096: must be >= datagram_bytes (9000); raise it',
        ),
        (
            UDP + '[[access]]\nallow = "connect"\n[[access]]\ndeny = "publish"',
            "[[udp]] 1: [[access]] 2 cannot be applied to clients by UDP, whose datagrams are not read",
        ),
        (
            UDP + '[[access]]\ndeny = "connect"\napplication = "live"',
            "[[udp]] 1: [[access]] 1 cannot be applied to clients by UDP",
        ),
        (
            UDP + '[stream_keys]\nsecrets_file = "/keys"',
            "[[udp]] 1: [stream_keys] cannot be applied to clients by UDP",
        ),
        (
            UDP + '[callback]\non_play = "http://127.0.0.1/"',
            "[[udp]] 1: [callback] cannot be applied to clients by UDP",
        ),
        (
            LISTENER + '[[upstream]]\nservers = ["a"]\nbalance_factor = 0.5',
            '[[upstream]] 1, key "balance_factor": 0.5: must be >= 1, such as 1.25, or 0',
        ),
        (
            LISTENER + '[[upstream]]\nservers = [{ address = "_rtmp._tcp.a", weight = 2 }]',
            '[[upstream]] 1, key "servers", item 1, key "weight": 2: the SRV records have the weights',
        ),
        (
            LISTENER + '[[upstream]]\nservers = ["a", "b", "a:1935"]',
            '[[upstream]] 1, key "servers", item 3: "a:1935" is listed twice',
        ),
        (
            LISTENER + '[[upstream]]\nservers = ["rtmp://a", "b", "a:1935"]',
            '[[upstream]] 1, key "servers", item 3: "a:1935" is listed twice',
        ),
        *(
            (
                f'{LISTENER}[[upstream]]\nservers = ["a"]\n{key}',
                f'[[upstream]] 1, key "{key.split()[0]}": not used by any server; write one with "rtmps://"',
            )
            for key in (
                'tls_authorities = "/a.pem"',
                'tls_certificate = "/a.pem"',
                'tls_server_name = "a"',
                "tls_verify = false",
            )
        ),
        (
            (
                f'{LISTENER}[[upstream]]\nservers = ["a", "rtmps://b"]\n'
                'tls_verify = false\ntls_authorities = "/a.pem"'
            ),
            '[[upstream]] 1, key "tls_verify": false: tls_authorities is not used then; remove one of them',
        ),
        (
            LISTENER + '[[upstream]]\nservers = ["a"]\n[[route]]\nupstream = ["1", "b"]',
            '[[route]] 1, key "upstream", item 2: "b": no such [[upstream]]; known: "1"',
        ),
        (
            ROUTE + 'listener = "127.0.0.1:81"',
            '[[route]] 1, key "listener", item 1: "127.0.0.1:81": no such [[listener]]; known: "127.',
        ),
        (
            ROUTE + '[route.rewrite]\ntc_url = "rtmp://{servr}/"',
            '[[route]] 1, key "rewrite", key "tc_url": "rtmp://{servr}/": unknown {servr}; known: {a',
        ),
        (
            ROUTE.replace("[[route]]", '[[upstream]]\nservers = ["rtmpe://b"]\n[[route]]')
            + 'application = "a"',
            '[[upstream]] 1, key "rtmpe": "opaque" is not possible beside others that decrypt RTMPE: [[r',
        ),
        (
            ROUTE.replace("[[route]]", '[[upstream]]\nservers = ["rtmpe://b"]\n[[route]]')
            + 'stream = "a"',
            '[[upstream]] 1, key "rtmpe": "opaque" is not possible beside others that decrypt RTMPE: [[r',
        ),
        (
            (
                f'{LISTENER}[[upstream]]\nservers = ["a"]\nrtmpe = "terminate"\n'
                '[[upstream]]\nservers = ["b"]\nchoose = "hash"\nhash_by = "stream"'
            ),
            '[[upstream]] 2, key "rtmpe": "opaque" is not possible beside others that decrypt RTMPE: [[u',
        ),
        (
            f'{LISTENER}[[upstream]]\nservers = ["a"]\nhash_by = "stream"',
            '[[upstream]] 1, key "hash_by": "stream": requires choose = "hash"; add it, or remove has',
        ),
        (
            f'{LISTENER}[[upstream]]\nservers = ["a"]\ncheck = "tcp"\ncheck_application = "live"',
            '[[upstream]] 1, key "check_application": "live": is not used with check = "tcp"',
        ),
        (
            f'{LISTENER}[[upstream]]\nservers = ["a"]\nchoose = "hash"\nhash_by = "name"',
            '[[upstream]] 1, key "hash_by": "name"',
        ),
        (
            ROUTE + 'sni = "a"',
            '[[route]] 1, key "sni": requires a listener with tls = true; add one',
        ),
        (
            ROUTE + '[[route]]\nupstream = "1"\nhost = "a"',
            "[[route]] 2: never used, because [[route]] 1 has no condition; move that one to the end",
        ),
        (
            LISTENER + '[tls]\ncertificates = ["/a"]',
            '[tls], key "certificates": not used by any listener; add tls = true to one',
        ),
        (
            LISTENER + 'tls = true\n[tls]\ncertificates = ["/a", "/a"]',
            '[tls], key "certificates", item 2: "/a" is listed twice',
        ),
        (
            LISTENER + '[[tls.certificate]]\nchain = "/a"\nkey = "/b"',
            '[tls], key "certificate": not used by any listener; add tls = true to one',
        ),
        (
            LISTENER + "tls = true\n" + 2 * '[[tls.certificate]]\nchain = "/a"\nkey = "/b"\n',
            '[[tls.certificate]] 2, key "chain": "/a" is listed twice; remove one',
        ),
        (
            f'{LISTENER}[admin]\naddress = "0.0.0.0:9935"',
            '[admin], key "address": "0.0.0.0:9935": reachable from other machines; use "127.0.0.1:PORT"',
        ),
        (
            f'{LISTENER}[admin]\naddress = "systemd:admin"',
            '[admin], key "address": "systemd:admin": reachable from other machines; use',
        ),
        (
            f'{LISTENER}[admin]\naddress = "0.0.0.0:1"\ncertificate = "/c.pem"',
            '[admin], key "address": "0.0.0.0:1": reachable from other machines; use',
        ),
        (
            f'{LISTENER}[admin]\nclient_authorities = "/a.pem"',
            '[admin], key "client_authorities": requires TLS; set "certificate"',
        ),
        (
            f'{LISTENER}[admin]\naddress = "127.0.0.1:80"',
            '[admin], key "address": "127.0.0.1:80" is already used by listener 1; use',
        ),
        (f"{LISTENER}[cross_domain]\n", "[cross_domain]: no policy; set domains, cross"),
        (
            f'{LISTENER}[cors]\norigins = ["*", "https://a.example"]',
            '[cors], key "origins": "*" allows all; remove the others',
        ),
        (f"{LISTENER}[limits]\nhead_s = 86401", '[limits], key "head_s": 86401: must be <= 86400'),
        (
            f"{LISTENER}[limits]\nbuffers_share = 25",
            '[limits], key "buffers_share": 25: must be <= 1',
        ),
        (
            f"{LISTENER}[limits]\nbody_bytes = 2000000",
            '[limits], key "body_bytes": 2000000: must be <= up_buffer_bytes (1048576)',
        ),
    ],
)
def test_contradicting_keys_are_refused(file: Path, text: str, problem: str) -> None:
    (line,) = problems(file, text)
    assert line.startswith(problem)


@pytest.mark.parametrize(
    "upstreams",
    [
        '[[upstream]]\nservers = ["a"]\nrtmpe = "terminate"\n',
        '[[upstream]]\nservers = ["rtmpe://a", "rtmpte://a"]\n',
        '[[upstream]]\nservers = ["a"]\nrtmpe = "terminate"\n[[upstream]]\nservers = ["rtmpe://b"]\n',
        '[[upstream]]\nservers = ["a"]\n[[upstream]]\nservers = ["b"]\n',
        # Clients do not reach mirrors.
        '[[upstream]]\nservers = ["a"]\n' + MIRROR,
    ],
)
def test_a_connect_can_be_read_if_rtmpe_is_decrypted_for_all_servers_or_none(
    file: Path, upstreams: str
) -> None:
    load(file, f'{LISTENER}{upstreams}[[route]]\nupstream = "1"\napplication = "a"\n')


@pytest.mark.parametrize(
    "addresses",
    [
        ("0.0.0.0:80", "[::]:80", "127.0.0.1:81", "[::1]:82"),
        ("127.0.0.1:80", "127.0.0.2:80", "[::1]:80"),
        ("0.0.0.0:0", "127.0.0.1:0", "0.0.0.0:0"),
    ],
)
def test_listeners_that_do_not_overlap_are_valid(file: Path, addresses: tuple[str, ...]) -> None:
    text = "".join(f'[[listener]]\naddress = "{address}"\n' for address in addresses)
    assert tuple(str(each.address) for each in load(file, text).listeners) == addresses


NODE = '[node]\nid = "aa"\naddress = "127.0.0.1:1936"\n'
FILES = 'certificate = "/node.pem"\nauthorities = "/nodes.pem"\n'
PEER = '[[peer]]\nnode = "bb"\naddress = "10.0.0.2"\n'


def test_a_peer_has_a_default_port(file: Path) -> None:
    config = load(file, LISTENER + NODE + FILES + PEER)
    assert str(config.peers[0].address) == "10.0.0.2:1936"


def test_clients_by_udp_can_bypass_access_control_that_reads_names(file: Path) -> None:
    (udp,) = load(file, f'{UDP}bypasses_access = true\n[[access]]\ndeny = "publish"').udp
    assert udp.bypasses_access
    assert (str(udp.address), str(udp.server)) == ("127.0.0.1:1935", "a:1935")
    load(file, f'{UDP}[[access]]\ndeny = "all"\nclients = ["192.0.2.0/24"]')
    load(file, f'{UDP}[callback]\non_done = "http://127.0.0.1/"')


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("unix:/run/udp", 'expected "IPV4:PORT" or "[IPV6]:PORT"'),
        ("systemd:udp", 'expected "IPV4:PORT" or "[IPV6]:PORT"'),
        ("*:1935", 'expected an address such as "0.0.0.0:1935"'),
    ],
)
def test_datagrams_are_received_on_an_ip_address(file: Path, address: str, problem: str) -> None:
    text = f'{LISTENER}[[udp]]\naddress = "{address}"\nserver = "rtmp://a"\n'
    of_address, of_server = problems(file, text)
    assert f'[[udp]] 1, key "address": "{address}": {problem}' in of_address
    assert '[[udp]] 1, key "server": "rtmp://a": leave out "rtmp://"' in of_server


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            NODE,
            [
                '[node], key "certificate": is required for peers, which authenticate each other',
                '[node], key "authorities": is required for peers, which authenticate each other',
            ],
        ),
        (
            NODE + FILES + PEER.replace("bb", "aa"),
            ['[[peer]] 1, key "node": "aa" is this node itself; name another one'],
        ),
        (
            NODE + FILES + PEER + PEER,
            ['[[peer]] 2, key "node": "bb" is listed twice; remove one'],
        ),
        (
            NODE.replace("127.0.0.1:1936", "unix:/run/nodes") + FILES,
            ['[node], key "address": "unix:/run/nodes": expected "IPV4:PORT" or "[IPV6]:PORT"'],
        ),
    ],
)
def test_peers_need_certificates_and_nodes_of_their_own(
    file: Path, text: str, found: list[str]
) -> None:
    assert problems(file, LISTENER + text) == found
