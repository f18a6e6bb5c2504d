"""rtmpt-port-test against real servers, proxies and firewalls: it names what is between within 3 s.

Client and server are in network namespaces of their own, so that the ports are those of real networks.
"""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.interop.between import (
    BASIC,
    DIGEST,
    OPEN,
    start_between,
    start_squid,
    start_tinyproxy,
)
from tests.helpers.interop.firewalled import AVAILABLE, NAME, SERVER, firewalled
from tests.helpers.interop.port_tester import COMMAND, Result, Site, without_proxies
from tests.helpers.interop.programs import Program, Programs, needs, until
from tests.helpers.interop.secure import make_authority
from tests.helpers.interop.servers import LOOPBACK

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="needs root, iproute2 and nftables")

# A port for TLS accepts the plain protocols too.
_SECURE = {"rtmp:443", "rtmpt:443", "rtmps:443", "rtmpts:443"}
_ALL = {*_SECURE, "rtmp:1935", "rtmp:80", "rtmpt:80"}
_PROXIED = {"rtmpt:80", "rtmpt:443", "rtmps:443", "rtmpts:443"}


@pytest.fixture
def site(programs: Programs, tmp_path: Path) -> Iterator[Site]:
    with firewalled() as network:
        yield Site(network, programs, make_authority(tmp_path), tmp_path)
        programs.stop()


# --- The gateway ---


def test_all_ways_to_a_gateway_work_over_ipv4_and_ipv6(site: Site) -> None:
    site.start_gateway()
    result = site.test(f"{NAME}/live")
    assert result.status == 0
    assert result.working("IPv4") == result.working("IPv6") == _ALL
    assert result.document["best"]["way"] == "rtmp:1935"
    assert result.document["type"]["OBS, encoders"].startswith(f"server rtmp://{NAME}/live,")
    secure = result.way("rtmps:443")
    assert secure["tls_version"] == "TLSv1.3"
    assert secure["certificate"]["names"] == [NAME]
    assert secure["certificate"]["days_left"] in (59, 60)
    assert "refused: nothing listens on port 8080" in result.way("rtmpt:8080")["verdict"]
    held = result.way("rtmpt:80")["held"]
    # The gateway's default is 250 ms.
    assert 200 < held["held_ms"] < 600
    assert (held["cut_after_ms"], held["closes"]) == (None, False)


def test_a_published_stream_plays_and_its_answers_are_streamed(site: Site, clip: Path) -> None:
    site.start_gateway()
    publish(site, clip)
    result = site.test(f"{NAME}/live/clip", "--way", "rtmp", "--way", "rtmpt")
    for way in ("rtmp:1935", "rtmpt:80"):
        assert result.way(way)["media"] is True
        assert "the stream plays" in result.way(way)["remarks"]
    assert result.way("rtmpt:80")["held"]["delivery"] == "streamed"


def publish(site: Site, clip: Path) -> None:
    """Publish a clip to the gateway, until it ends."""
    program = site.programs.start(
        *(*site.network.far, needs("ffmpeg"), "-nostdin", "-loglevel", "error", "-re"),
        *("-stream_loop", "-1", "-i", str(clip), "-c", "copy", "-f", "flv"),
        f"rtmp://{SERVER}/live/clip",
    )
    playing = ("--way", "rtmp", f"{NAME}/live/clip")
    until(lambda: site.test(*playing).way("rtmp:1935")["media"] or not program.running, "media")
    assert program.running, program.log


def test_nginx_rtmp_plays_a_clip_and_closes_for_an_unknown_application(
    lasting_nginx: tuple[Program, int], clip: Path
) -> None:
    way = f"rtmp:{lasting_nginx[1]}"
    words = ["--json", "--way", way]
    found = []
    for path in (f"vod/{clip.name}", "unknown"):
        done = subprocess.run(
            [*COMMAND, *words, f"{LOOPBACK}/{path}"],
            env=without_proxies(None),
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        found.append(Result(json.loads(done.stdout), done.returncode))
    plays, unknown = found
    assert plays.way(way)["media"] is True
    # Less than the wait for an answer that never comes: it answers pings.
    assert plays.way(way)["times_ms"]["round_trip"] < 500
    assert "does not accept the application" in unknown.way(way)["verdict"]
    assert (plays.status, unknown.status) == (0, 1)


# --- Firewalls ---


def test_dropped_packets_are_told(site: Site) -> None:
    site.start_gateway()
    site.network.forbid("tcp dport 1935 drop")
    result = site.test(NAME)
    for over in ("IPv4", "IPv6"):
        assert result.way("rtmp:1935", over)["verdict"].startswith("packets vanish: a firewall")
    assert result.working() == _ALL - {"rtmp:1935"}
    assert result.document["best"]["way"] in ("rtmp:443", "rtmp:80")


def test_all_but_one_port_dropped_leaves_the_ways_of_this_port(site: Site) -> None:
    site.start_gateway()
    site.network.forbid("tcp dport != 443 drop")
    result = site.test(NAME)
    assert result.working() == _SECURE
    assert "packets vanish" in result.way("rtmpt:80")["verdict"]
    assert (result.document["best"]["way"], result.status) == ("rtmp:443", 0)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (
            "tcp dport 1935 reject with tcp reset",
            "refused: nothing listens on port 1935, or a fire",
        ),
        ("tcp dport 1935 reject with icmpx admin-prohibited", "no route: a firewall or router"),
    ],
)
def test_rejected_connections_are_told(site: Site, rule: str, said: str) -> None:
    site.network.forbid(rule)
    result = site.test(NAME, "--way", "rtmp")
    assert said in result.way("rtmp:1935")["verdict"]
    assert result.status == 1


def test_a_dead_name_server_is_told(site: Site) -> None:
    result = site.test("other.example.org", "--way", "rtmp")
    assert "the name server does not answer" in result.way("rtmp:1935")["verdict"]
    assert result.status == 1


# --- Throughput ---


def test_the_throughput_of_tunnels_is_measured_against_the_gateway_itself(site: Site) -> None:
    site.start_gateway("[port_test]\nenabled = true\n")
    # Each way by IPv4 only, since measurements take 4 s each.
    site.network.forbid("ip6 nexthdr tcp reject")
    words = ("--throughput", "--way", "rtmpt", "--way", "rtmp")
    result = site.test(NAME, *words, within_s=8.0)
    found = result.way("rtmpt:80")["throughput"]
    assert found["cause"] is None
    # The gateway's limit; it may begin with a burst of a part of a second.
    assert found["limit_bits_per_s"] == 20_000_000
    for direction in ("up", "down"):
        assert 1_000_000 < found[f"{direction}_bits_per_s"] < 25_000_000, found
    assert result.way("rtmp:1935")["throughput"]["cause"] == "not_tunnelled"


def test_a_server_without_measurements_is_told(site: Site) -> None:
    site.start_gateway()
    result = site.test(NAME, "--throughput", "--way", "rtmpt")
    assert result.way("rtmpt:80")["throughput"]["cause"] == "not_offered"
    (remark,) = [each for each in result.way("rtmpt:80")["remarks"] if "throughput" in each]
    assert remark.startswith("the server offers no measurement of throughput")


# --- Servers that are something else ---

_NGINX = """
daemon off;
user root;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{ listen 80; root {folder}; }}
    server {{ listen 443 ssl; ssl_certificate {certificate}; ssl_certificate_key {certificate}; }}
}}
"""


def test_a_web_server_is_told(site: Site) -> None:
    folder = site.programs.new_folder("nginx")
    certificate = site.authority.certify("site.pem", NAME)
    path = folder / "nginx.conf"
    path.write_text(_NGINX.format(folder=folder, certificate=certificate))
    site.programs.start(*site.network.far, needs("nginx"), "-c", str(path), "-e", "stderr")
    until(lambda: site.answers(443), "nginx listens")
    result = site.test(NAME)
    assert result.way("rtmp:80")["verdict"].startswith("the port answers but speaks HTTP only")
    assert result.way("rtmpt:80")["verdict"].startswith("the port answers but speaks HTTP only")
    assert result.way("rtmps:443")["verdict"].startswith("the port answers but speaks HTTP only")
    assert result.status == 1


# --- Proxies ---


def only_a_proxy(site: Site) -> str:
    """Have port 3128 as the only way out. Returns the URL of the proxy there."""
    site.start_gateway()
    site.network.forbid("tcp dport != 3128 drop")
    return f"http://{SERVER}:3128"


_TINY_OPEN = "Allow 10.198.0.0/24\nConnectPort 443\n"


def test_a_proxy_without_authentication_is_the_way_out(site: Site) -> None:
    url = only_a_proxy(site)
    start_tinyproxy(site.programs, site.network.far, 3128, _TINY_OPEN)
    until(lambda: site.answers(3128), "tinyproxy listens")
    environment = {"http_proxy": url, "https_proxy": url}
    result = site.test(f"{NAME}/live", environment=environment)
    assert result.working() == set()
    assert result.working("proxy") == _PROXIED, result.document
    assert result.document["best"] == {"way": "rtmps:443", "over": "proxy"}
    # tinyproxy closes each connection after an answer.
    assert result.way("rtmpt:80", "proxy")["held"]["closes"] is True
    excluded = site.test(NAME, environment={**environment, "no_proxy": NAME})
    assert {each["over"] for each in excluded.document["ways"]} == {"IPv4", "IPv6"}


def test_a_port_that_the_proxy_forbids_is_told(site: Site) -> None:
    url = only_a_proxy(site)
    start_tinyproxy(site.programs, site.network.far, 3128, _TINY_OPEN)
    until(lambda: site.answers(3128), "tinyproxy listens")
    result = site.test(NAME, "--proxy", url, "--way", "rtmps:1936")
    said = result.way("rtmps:1936", "proxy")["verdict"]
    assert said.startswith("the proxy answers 403: its rules forbid CONNECT to port 1936")


@pytest.mark.parametrize("proxy", ["squid, Basic", "squid, Digest", "tinyproxy"])
def test_a_proxy_with_authentication_is_told_and_used(site: Site, proxy: str) -> None:
    only_a_proxy(site)
    if proxy.startswith("squid"):
        access = DIGEST if "Digest" in proxy else BASIC
        start_squid(site.programs, site.network.far, 3128, access)
    else:
        more = "BasicAuth ann secret\n"
        start_tinyproxy(site.programs, site.network.far, 3128, _TINY_OPEN + more)
    until(lambda: site.answers(3128), f"{proxy} listens")
    refused = site.test(NAME, "--proxy", f"http://{SERVER}:3128")
    for way in ("rtmpt:80", "rtmps:443", "rtmpts:443"):
        said = refused.way(way, "proxy")["verdict"]
        assert said == "an HTTP proxy answers 407: give --proxy with name and password"
    assert refused.status == 1
    result = site.test(NAME, "--proxy", f"http://ann:secret@{SERVER}:3128")
    assert result.working("proxy") == _PROXIED, result.document
    wrong = site.test(NAME, "--proxy", f"http://ann:wrong@{SERVER}:3128", "--way", "rtmps")
    said = wrong.way("rtmps:443", "proxy")["verdict"]
    assert said.endswith("it does not accept the name and password")


def test_a_proxy_without_a_server_behind_it_is_told(site: Site) -> None:
    start_squid(site.programs, site.network.far, 3128, OPEN)
    until(lambda: site.answers(3128), "squid listens")
    result = site.test(NAME, "--proxy", f"http://{SERVER}:3128", "--way", "rtmps", "--way", "rtmpt")
    for way in ("rtmps:443", "rtmpt:80"):
        assert "it cannot connect to port" in result.way(way, "proxy")["verdict"]


# --- In between ---


def test_an_inspecting_proxy_is_told_with_its_issuer(site: Site) -> None:
    site.start_gateway()
    company = site.folder / "company"
    company.mkdir()
    inspecting = make_authority(company)
    certificate = inspecting.certify("inspecting.pem", NAME)
    words = ("inspect", "8443", "443", str(certificate))
    start_between(site.programs, site.network.far, *words)
    site.network.redirect(443, 8443)
    result = site.test(NAME)
    for way in ("rtmps:443", "rtmpts:443"):
        said = result.way(way)["verdict"]
        assert said.startswith("a proxy that inspects TLS replaced the certificate (issuer ")
        assert result.way(way)["certificate"]["issuer"] in said
    # With the authority that a company gives to its people, the ways work.
    result = site.test(NAME, ca=inspecting.root_path)
    assert {"rtmps:443", "rtmpts:443"} <= result.working()


def test_a_proxy_that_buffers_answers_is_told(site: Site, clip: Path) -> None:
    site.start_gateway()
    publish(site, clip)
    start_between(site.programs, site.network.far, "buffer", "8080", "80")
    result = site.test(f"{NAME}/live/clip", "--way", "rtmpt:8080", "--way", "rtmpt:80")
    assert result.way("rtmpt:8080")["held"]["delivery"] == "buffered"
    assert any("buffered" in remark for remark in result.way("rtmpt:8080")["remarks"])
    assert result.way("rtmpt:80")["held"]["delivery"] == "streamed"
    assert result.document["best"]["way"] == "rtmpt:80"


_HAPROXY = """
defaults
    mode {mode}
    timeout connect 5s
    timeout client 20s
    timeout server 1s
listen relay
    bind :8080
    server behind 127.0.0.1:80
"""


@pytest.mark.parametrize("mode", ["tcp", "http"])
def test_a_proxy_that_cuts_waiting_requests_is_told(site: Site, mode: str) -> None:
    site.start_gateway('[tunnel]\nlatency = "high"\n')
    path = site.programs.new_folder("haproxy") / "haproxy.cfg"
    path.write_text(_HAPROXY.format(mode=mode))
    site.programs.start(*site.network.far, needs("haproxy"), "-db", "-f", str(path))
    until(lambda: site.answers(8080), "haproxy listens")
    result = site.test(f"{NAME}/live", "--way", "rtmpt:8080")
    way = result.way("rtmpt:8080")
    assert 900 < way["held"]["cut_after_ms"] < 1500
    assert any("cuts a request that waits" in remark for remark in way["remarks"])
    assert way["works"]


# --- The terminal ---


def on_a_terminal(site: Site, *words: str, interrupt: bool = False) -> tuple[str, int]:
    """The output on a terminal of 80 columns, and the exit status."""
    main, other = pty.openpty()
    process = subprocess.Popen(
        [*site.network.near, *COMMAND, *words],
        env={**without_proxies(None), "COLUMNS": "100", "LINES": "50"},
        stdin=other,
        stdout=other,
        stderr=other,
    )
    os.close(other)
    shown = b""
    while True:
        try:
            data = os.read(main, 65536)
        except OSError:  # Linux has this for the end.
            break
        shown += data
        if interrupt and b"connecting" in shown:
            interrupt = False
            process.send_signal(signal.SIGINT)
    os.close(main)
    return shown.decode(), process.wait(10)


def test_progress_is_live_on_a_terminal_and_the_result_remains(site: Site) -> None:
    site.network.forbid("tcp dport 1935 drop")
    shown, status = on_a_terminal(site, NAME)
    before, _, last = shown.rpartition("\x1b[J")
    assert "connecting ..." in before
    assert "connecting ..." not in last
    assert re.search(r"rtmp:1935 +IPv4 .* no answer\r\n", last)
    assert "No way works from here." in last
    assert status == 1


def test_ctrl_c_ends_it_quietly(site: Site) -> None:
    site.network.forbid("tcp dport 1935 drop")
    shown, status = on_a_terminal(site, NAME, interrupt=True)
    assert status == 130
    assert "Traceback" not in shown
