"""Browsers and Flash-era clients around the tunnel: scripts in Chromium, policy files, cookies."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.cookiejar import CookieJar
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.error import HTTPError
from urllib.request import HTTPCookieProcessor, Request, build_opener

import pytest

from tests.helpers.interop.browser import Browser
from tests.helpers.interop.programs import Programs, needs, until
from tests.helpers.interop.secure import Gateway, start_configured
from tests.helpers.interop.servers import LOOPBACK

_POLICY = "<cross-domain-policy><!-- {} --></cross-domain-policy>"
_CONFIGURATION = """
workers = 1
[[listener]]
address = "{loopback}:0"
[cors]
origins = ["{origin}"]
[tunnel]
cookie = "NODE"
[cross_domain]
domains = ["*.example.org"]
crossdomain_file = "{file}"
[node]
public_address = "gateway.example.org"
"""
# A tunnel by fetch: opened, with a whole handshake, and closed. Its result has the size of S0, S1 and S2.
_TUNNEL = """
(async () => {
    const post = async (path, body) => {
        const answer = await fetch("http://%(gateway)s" + path, {
            method: "POST", body, credentials: "include",
            headers: {"Content-Type": "application/x-fcs"},
        });
        if (!answer.ok) throw new Error(path + ": " + answer.status);
        return new Uint8Array(await answer.arrayBuffer());
    };
    try {
        const session = new TextDecoder().decode(await post("/open/1", new Uint8Array(1))).trim();
        const hello = new Uint8Array(1537);
        hello[0] = 3;
        let number = 0;
        let received = (await post(`/send/${session}/${number++}`, hello)).slice(1).length;
        while (received < 3073) {
            received += (await post(`/idle/${session}/${number++}`, new Uint8Array(1))).slice(1).length;
        }
        await post(`/close/${session}/${number++}`, new Uint8Array(1));
        const gone = await fetch(`http://%(gateway)s/idle/unknown/0`, {method: "POST"});
        return `${received} bytes, then ${gone.status}`;
    } catch (error) {
        return `${error.name}: ${error.message}`;
    }
})()
"""


class _Page(BaseHTTPRequestHandler):
    """An empty page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def site() -> Iterator[str]:
    """A website of its own origin; its address."""
    server = ThreadingHTTPServer((LOOPBACK, 0), _Page)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://{LOOPBACK}:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def allowed() -> Iterator[str]:
    with site() as origin:
        yield origin


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The policy file that is configured."""
    path = tmp_path_factory.mktemp("policy") / "crossdomain.xml"
    path.write_text(_POLICY.format("first"))
    return path


@pytest.fixture(scope="module")
def gateway(lasting_programs: Programs, allowed: str, file: Path) -> Gateway:
    text = _CONFIGURATION.format(loopback=LOOPBACK, origin=allowed, file=file)
    return start_configured(lasting_programs, text, 1)


def test_a_script_opens_a_tunnel_from_an_allowed_origin_and_from_no_other(
    programs: Programs, gateway: Gateway, allowed: str
) -> None:
    script = _TUNNEL % {"gateway": f"{LOOPBACK}:{gateway.ports[0]}"}
    with Browser(programs) as browser, site() as other:
        found = {}
        for origin in (allowed, other):
            browser.open(f"{origin}/")
            browser.until(f"location.origin === {json.dumps(origin)} && document.body !== null")
            found[origin] = browser.evaluate(script)
        assert found == {
            allowed: "3073 bytes, then 404",
            other: "TypeError: Failed to fetch",
        }
        cookies = browser.call("Network.getCookies", urls=[f"http://{LOOPBACK}/"])["cookies"]
        assert [(each["name"], each["value"], each["httpOnly"]) for each in cookies] == [
            ("NODE", "00", True)
        ]


def policy_of_sockets(port: int) -> bytes:
    """What Flash Player gets for a request on this port, until the connection ends."""
    with socket.create_connection((LOOPBACK, port), timeout=10) as flash:
        flash.sendall(b"<policy-file-request/>\0")
        return b"".join(iter(lambda: flash.recv(4096), b""))


def policy_file(port: int) -> bytes:
    client = http.client.HTTPConnection(LOOPBACK, port, timeout=10)
    client.request("GET", "/crossdomain.xml")
    body = client.getresponse().read()
    client.close()
    return body


def test_a_policy_file_is_served_by_http_and_on_sockets_and_read_again_by_a_reload(
    gateway: Gateway, file: Path
) -> None:
    (port,) = gateway.ports
    for version in ("first", "second"):
        content = _POLICY.format(version)
        if version == "second":
            file.write_text(content)
            gateway.hang_up("reloaded certificates")
        assert policy_file(port) == content.encode()
        assert policy_of_sockets(port) == content.encode() + b"\0"


_NODE = """
workers = 1
[[listener]]
address = "127.0.0.1:0"
[node]
id = "bb"
[tunnel]
cookie = "NODE"
"""
# The README's balancer that cannot read session ids.
_BALANCER = """
global
    maxconn 1000
defaults
    mode http
    timeout connect 3s
    timeout client 90s
    timeout server 90s
listen rtmpt
    bind fd@{descriptor}
    balance roundrobin
    cookie NODE
    server first 127.0.0.1:{first} cookie 00
    server second 127.0.0.1:{second} cookie bb
"""


@pytest.fixture(scope="module")
def balancer(lasting_programs: Programs, gateway: Gateway) -> Iterator[int]:
    """The port of HAProxy in front of two nodes that do not know each other."""
    needs("haproxy")
    second = start_configured(lasting_programs, _NODE, 1)
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server((LOOPBACK, 0), backlog=128))
        os.set_inheritable(listening.fileno(), True)
        file = lasting_programs.new_folder("haproxy") / "haproxy.cfg"
        (port_of_first,), (port_of_second,) = gateway.ports, second.ports
        file.write_text(
            _BALANCER.format(
                descriptor=listening.fileno(), first=port_of_first, second=port_of_second
            )
        )
        program = lasting_programs.start(
            "haproxy", "-db", "-f", str(file), pass_fds=[listening.fileno()]
        )
        port = listening.getsockname()[1]
        until(lambda: post(port, "/fcs/ident2", CookieJar())[0] in (200, 404), "HAProxy serves")
        yield port
        program.send(signal.SIGTERM)


def post(port: int, path: str, cookies: CookieJar) -> tuple[int, bytes]:
    """The status and body of a command on a connection of its own."""
    opener = build_opener(HTTPCookieProcessor(cookies))
    request = Request(f"http://{LOOPBACK}:{port}{path}", b"\0")
    try:
        with opener.open(request, timeout=10) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        with error:
            return error.code, error.read()


def test_a_balancer_sends_commands_with_the_cookie_to_the_node_of_their_session(
    balancer: int,
) -> None:
    nodes = set()
    for _ in range(4):
        cookies = CookieJar()
        status, body = post(balancer, "/open/1", cookies)
        assert status == 200
        session = body.decode().strip()
        nodes.add(session[:2])
        assert [cookie.value for cookie in cookies] == [session[:2]]
        assert [post(balancer, f"/close/{session}/0", cookies)[0] for _ in range(3)] == [200] * 3
        # Without it, the balancer takes the nodes in turn.
        others = [post(balancer, f"/close/{session}/0", CookieJar())[0] for _ in range(2)]
        assert sorted(others) == [200, 404]
    assert nodes == {"00", "bb"}
