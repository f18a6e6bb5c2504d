"""Forwarding to a website with real programs: nginx, curl, websockets, a browser."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from statistics import median
from threading import Event, Thread
from typing import Any

import pytest
import websockets.sync.client
import websockets.sync.server
from attrs import frozen

from tests.helpers.interop.kernel_buffers import unacknowledged_bytes
from tests.helpers.interop.programs import Program, Programs, needs, until
from tests.helpers.interop.secure import SECURE, Authority, make_authority, start
from tests.helpers.interop.servers import LOOPBACK
from tests.helpers.interop.websites import (
    PlayedServer,
    WebGateway,
    make_large_file,
    played,
    start_site,
    start_web_gateway,
)
from tests.protocols.malformed import MALFORMED, NEXT

_NAME = "a.example"
_GIGABYTE = 1 << 30
# The gateway alone has some 50 MB.
_MORE_MEMORY_BYTES = 10 << 20
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
# A PNG of one pixel.
_PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c63000100000500010d0a2db40000000049454e44ae426082"
)
_PAGE = """<!doctype html>
<img id="pixel" src="/pixel.png">
<script>
const report = found => fetch("/put/report", {method: "PUT", body: JSON.stringify(found)});
const loaded = image => image.complete ? image.naturalWidth
    : new Promise(done => { image.onload = () => done(image.naturalWidth); });
const echoed = word => new Promise(done => {
    const socket = new WebSocket(`ws://${location.host}/socket`);
    socket.onopen = () => socket.send(word);
    socket.onmessage = event => { socket.close(); done(event.data); };
});
const told = () => new Promise(done => {
    const events = new EventSource("/events.txt");
    events.onmessage = event => { events.close(); done(event.data); };
});
const sizeOf = async path => {
    const reader = (await fetch(path)).body.getReader();
    let size = 0;
    for (let step = await reader.read(); !step.done; step = await reader.read())
        size += step.value.length;
    return size;
};
(async () => {
    const width = await loaded(document.getElementById("pixel"));
    const text = await (await fetch("/hello.txt")).text();
    const tunnel = (await fetch("/fcs/ident2", {method: "POST"})).status;
    const [echo, event] = [await echoed("round trip"), await told()];
    await report({width, text, tunnel, echo, event, size: await sizeOf("/large")});
})().catch(error => report({error: String(error)}));
</script>
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """nginx's files, readable by the user of its worker."""
    root = tmp_path_factory.mktemp("root")
    (root / "hello.txt").write_text("hello")
    (root / "page.html").write_text(_PAGE)
    (root / "events.txt").write_text("data: now\n\n")
    (root / "pixel.png").write_bytes(_PIXEL)
    (root / "put").mkdir()
    (root / "put").chmod(0o777)
    return root


def _echo(connection: Any) -> None:
    for message in connection:
        connection.send(message)


@pytest.fixture(scope="module")
def websocket_port() -> Iterator[int]:
    with websockets.sync.server.serve(_echo, LOOPBACK, 0, max_size=None) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def gateway(lasting_programs: Programs, root: Path, websocket_port: int) -> WebGateway:
    """A gateway in front of nginx, which forwards WebSockets."""
    return start_web_gateway(lasting_programs, start_site(lasting_programs, root, websocket_port))


@pytest.fixture
def curl() -> Callable[..., str]:
    path = needs("curl")

    def run(*words: str, stdin: bytes | None = None) -> str:
        command = [path, "--silent", "--show-error", "--max-time", "60", *words]
        done = subprocess.run(command, input=stdin, capture_output=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    return run


def in_front_of(programs: Programs, server: PlayedServer) -> WebGateway:
    return start_web_gateway(programs, server.port)


# --- Files ---


def test_get_and_head_requests_are_served_on_one_connection(gateway: WebGateway, curl) -> None:
    url = f"{gateway.url}/hello.txt"
    assert curl(url, url, "-w", "%{num_connects}") == "hello1hello0"
    head = curl("--head", url)
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert "Content-Length: 5\r\n" in head


def test_an_http_1_0_request_is_served(gateway: WebGateway, curl) -> None:
    assert curl("--http1.0", f"{gateway.url}/hello.txt") == "hello"


def test_a_range_request_gets_206(gateway: WebGateway, curl) -> None:
    assert curl("-r", "1-3", "-w", "%{http_code}", f"{gateway.url}/hello.txt") == "ell206"


def test_a_request_with_a_matching_etag_gets_304(gateway: WebGateway, curl) -> None:
    url = f"{gateway.url}/hello.txt"
    tag = curl("--head", url, "-w", "%header{etag}").splitlines()[-1]
    found = curl(url, url, "-H", f"If-None-Match: {tag}", "-w", "%{http_code} %{num_connects} ")
    assert found == "304 1 304 0 "


@pytest.mark.parametrize("framing", [["-T", "FILE"], ["-T", "-"], ["-T", "FILE", "-H", "Expect:"]])
def test_an_upload_with_content_length_or_chunks_arrives_complete(
    gateway: WebGateway, curl, root: Path, tmp_path: Path, framing: list[str]
) -> None:
    file = tmp_path / "upload"
    make_large_file(file, 50_000_001)
    words = [str(file) if word == "FILE" else word for word in framing]
    stdin = file.read_bytes() if "-" in words else None
    code = curl(*words, f"{gateway.url}/put/upload", "-w", "%{http_code}", stdin=stdin)
    assert code in ("201", "204")
    assert (root / "put" / "upload").read_bytes() == file.read_bytes()


def test_the_body_of_a_refused_upload_is_not_sent(
    gateway: WebGateway, curl, tmp_path: Path
) -> None:
    file = tmp_path / "upload"
    make_large_file(file, 50_000_000)
    found = curl(
        *("-T", str(file), "-o", "/dev/null", "-w", "%{http_code} %{size_upload}"),
        f"{gateway.url}/small/upload",
    )
    assert found == "413 0"


def test_a_download_of_a_gigabyte_is_complete_and_takes_little_memory(
    gateway: WebGateway, root: Path
) -> None:
    make_large_file(root / "large", _GIGABYTE)
    before = gateway.memory_bytes
    assert _checksum_of(f"{gateway.url}/large") == _checksum_of(f"file://{root}/large")
    assert gateway.memory_bytes - before < _MORE_MEMORY_BYTES


def test_a_client_that_does_not_read_takes_little_memory(gateway: WebGateway, root: Path) -> None:
    make_large_file(root / "large", _GIGABYTE)
    before = gateway.memory_bytes
    with socket.create_connection((LOOPBACK, gateway.port)) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        client.recv(1)
        # Longer than the gateway takes for all of it.
        time.sleep(2)
        assert gateway.memory_bytes - before < _MORE_MEMORY_BYTES


def _checksum_of(url: str) -> tuple[int, int]:
    """The size and checksum of curl's download."""
    size = checksum = 0
    with subprocess.Popen([needs("curl"), "-sS", url], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while piece := process.stdout.read(1 << 20):
            size += len(piece)
            checksum = zlib.crc32(piece, checksum)
    return size, checksum


# --- Streams ---


def test_server_sent_events_are_forwarded_within_milliseconds(programs: Programs) -> None:
    go_on = Event()

    def send_events(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for _ in range(20):
            go_on.wait(10)
            go_on.clear()
            connection.sendall(b"data: %.6f\n\n" % time.monotonic())

    with played(send_events) as server:
        gateway = in_front_of(programs, server)
        delays = []
        with socket.create_connection((LOOPBACK, gateway.port), 10) as client:
            client.sendall(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
            for _ in range(20):
                go_on.set()
                event = client.recv(65536)
                delays.append(time.monotonic() - float(event.split(b"data: ")[1].split(b"\n")[0]))
        assert median(delays) < 0.005


@pytest.mark.parametrize("size", [1, 5_000_000])
def test_a_websocket_carries_messages_in_both_directions(gateway: WebGateway, size: int) -> None:
    url = f"ws://{LOOPBACK}:{gateway.port}/socket"
    with websockets.sync.client.connect(url, max_size=None, compression=None) as client:
        for octet in (b"a", b"b"):
            client.send(octet * size)
            assert client.recv(timeout=10) == octet * size


def test_the_sender_of_a_websocket_whose_peer_does_not_read_is_paused(programs: Programs) -> None:
    over = Event()

    def upgrade_and_read_nothing(connection: socket.socket) -> None:
        connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        )
        over.wait(20)

    with played(upgrade_and_read_nothing) as server:
        gateway = in_front_of(programs, server)
        before = gateway.memory_bytes
        with socket.create_connection((LOOPBACK, gateway.port), 1) as client:
            client.sendall(
                b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
            )
            assert client.recv(65536).startswith(b"HTTP/1.1 101 ")
            with pytest.raises(TimeoutError):
                client.sendall(bytes(_GIGABYTE))
        over.set()
        assert gateway.memory_bytes - before < _MORE_MEMORY_BYTES


def test_the_last_data_of_a_websockets_server_arrives_although_the_client_still_sends(
    programs: Programs,
) -> None:
    # What the client does not read has room in the gateway and its kernel.
    words = bytes(range(256)) * 1000
    closes = Event()

    def upgrade_and_close(connection: socket.socket) -> None:
        connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        )
        connection.sendall(words)
        until(lambda: not unacknowledged_bytes(connection), "the gateway's kernel has all")
        connection.close()
        closes.set()

    with played(upgrade_and_close) as server, socket.socket() as client:
        gateway = in_front_of(programs, server)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        client.settimeout(10)
        client.connect((LOOPBACK, gateway.port))
        client.sendall(
            b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        )
        assert closes.wait(10)
        for _ in range(5):
            client.sendall(b"ping")
            time.sleep(0.05)
        got = bytearray()
        while data := client.recv(65536):
            got += data
    assert got.partition(b"\r\n\r\n")[2] == words


def test_a_browser_can_load_a_page_and_a_gigabyte_and_use_a_websocket(
    gateway: WebGateway, programs: Programs, root: Path
) -> None:
    make_large_file(root / "large", _GIGABYTE)
    report = root / "put" / "report"
    report.unlink(missing_ok=True)
    start_browser(programs, f"{gateway.url}/page.html")
    until(report.exists, "the browser has seen it all", 60)
    found = json.loads(until(report.read_text, "the report is written"))
    assert found == {
        "width": 1,
        "text": "hello",
        "tunnel": 404,
        "echo": "round trip",
        "event": "now",
        "size": _GIGABYTE,
    }


def start_browser(programs: Programs, url: str) -> Program:
    quiet = ("background-networking", "component-update", "sync", "gpu", "quic", "dev-shm-usage")
    return programs.start(
        "chromium",
        *("--headless", "--no-sandbox", "--no-first-run", "--remote-debugging-port=0"),
        *(f"--disable-{feature}" for feature in quiet),
        f"--user-data-dir={programs.new_folder('profile')}",
        url,
    )


# --- Within TLS ---


@frozen
class Secure:
    """A gateway with certificates in front of nginx, and the server name of the certificates."""

    authority: Authority
    port: int

    @property
    def address(self) -> str:
        return f"{_NAME}:{self.port}"

    @property
    def trusting(self) -> tuple[str, ...]:
        """The options of curl for the server name and the CA."""
        ours = ("--cacert", self.authority.root_path)
        return (*ours, "--resolve", f"{_NAME}:{self.port}:{LOOPBACK}")


@pytest.fixture
def secure(programs: Programs, root: Path, websocket_port: int, tmp_path: Path) -> Secure:
    authority = make_authority(tmp_path)
    site = start_site(programs, root, websocket_port)
    certificates = [authority.certify("site.pem", _NAME)]
    gateway = start(programs, certificates, "", f'[website]\nserver = "{LOOPBACK}:{site}"\n')
    return Secure(authority, gateway.ports[SECURE])


def test_https_requests_use_http_1_1_on_one_connection(secure: Secure, curl) -> None:
    url = f"https://{secure.address}/hello.txt"
    found = curl(*secure.trusting, "--http2", url, url, "-w", "%{http_version} %{num_connects} ")
    assert found == "hello1.1 1 hello1.1 0 "


def test_an_upload_and_its_download_by_https_are_the_same(
    secure: Secure, curl, tmp_path: Path
) -> None:
    sent, received = tmp_path / "sent", tmp_path / "received"
    make_large_file(sent, 50_000_001)
    url = f"https://{secure.address}/put/secure"
    assert curl(*secure.trusting, "-T", str(sent), url, "-w", "%{http_code}") in ("201", "204")
    curl(*secure.trusting, "-o", str(received), url)
    assert received.read_bytes() == sent.read_bytes()


def test_a_websocket_over_tls_carries_messages_in_both_directions(secure: Secure) -> None:
    with (
        socket.create_connection((LOOPBACK, secure.port), 10) as plain,
        websockets.sync.client.connect(
            f"wss://{secure.address}/socket",
            sock=plain,
            ssl=secure.authority.client_context(),
            max_size=None,
            compression=None,
        ) as client,
    ):
        client.send(b"a" * 5_000_000)
        assert client.recv(timeout=10) == b"a" * 5_000_000


# --- Faults ---


def test_a_server_that_refuses_connections_gives_502_at_once(programs: Programs, curl) -> None:
    with played(lambda connection: None) as server:
        pass
    gateway = in_front_of(programs, server)
    code, seconds, size = curl(
        "-w", "%{http_code} %{time_total} %{size_download}", f"{gateway.url}/"
    ).split()
    assert (code, size) == ("502", "0")
    assert float(seconds) < 0.5


def test_a_server_that_does_not_answer_in_time_gives_504(programs: Programs, curl) -> None:
    with played(lambda connection: time.sleep(5)) as server:
        gateway = in_front_of(programs, server)
        code, seconds, size = curl(
            "-w", "%{http_code} %{time_total} %{size_download}", f"{gateway.url}/"
        ).split()
    assert (code, size) == ("504", "0")
    assert 1.0 <= float(seconds) < 2.0


def test_a_malformed_request_is_not_forwarded(programs: Programs) -> None:
    with played(lambda connection: connection.sendall(_OK)) as server:
        gateway = in_front_of(programs, server)
        reached = [case.name for case in MALFORMED if _reaches(gateway, server, case.wire)]
        assert reached == []
        # That it would have been seen:
        assert _reaches(gateway, server, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")


def _reaches(gateway: WebGateway, server: PlayedServer, wire: bytes) -> bool:
    seen = len(server.heads)
    with socket.create_connection((LOOPBACK, gateway.port), 2) as client:
        client.sendall(wire.replace(b"/open/1", b"/page", 1) + NEXT)
        # A connection stays open behind a request in order, and is reset by what is no HTTP at all.
        with suppress(TimeoutError, ConnectionResetError):
            while client.recv(65536):
                pass
    return len(server.heads) > seen


# --- The tunnel beside it ---


class Poller:
    """A tunnel's client that sends the next poll as soon as it has an answer."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((LOOPBACK, port), 10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._session = self._post(b"/open/1").split(b"\r\n\r\n")[1].strip()
        self._number = 0

    def delays(self, count: int) -> list[float]:
        """The duration of each of ``count`` polls, in seconds."""
        found = []
        for _ in range(count):
            begin = time.perf_counter()
            answer = self._post(b"/idle/%b/%d" % (self._session, self._number))
            found.append(time.perf_counter() - begin)
            assert answer.startswith(b"HTTP/1.1 200 ")
            self._number += 1
        return found

    def _post(self, target: bytes) -> bytes:
        self._socket.sendall(b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n\0" % target)
        return self._socket.recv(65536)

    def close(self) -> None:
        self._socket.close()


@contextmanager
def on_one_core(program: Program) -> Iterator[None]:
    """Keep this thread and the worker of ``program`` together. A scheduler that moves either of them in the
    middle of it makes more of a difference than anything that is measured here: they wake each other for
    each poll.
    """
    usable = os.sched_getaffinity(0)
    core = {min(usable)}
    (worker,) = program.children
    os.sched_setaffinity(worker, core)
    os.sched_setaffinity(0, core)
    try:
        yield
    finally:
        os.sched_setaffinity(0, usable)
        os.sched_setaffinity(worker, usable)


def test_a_tunnel_keeps_its_latency_during_a_download(
    gateway: WebGateway, root: Path, programs: Programs
) -> None:
    make_large_file(root / "large", _GIGABYTE)
    with closing(Poller(gateway.port)) as poller:
        with on_one_core(gateway.program):
            alone = median(poller.delays(2000))
        # Some 800 Mbit/s; without a limit the test's own programs would fight for the processor.
        download = programs.start(
            "curl", "-sS", "-o", "/dev/null", "--limit-rate", "100M", f"{gateway.url}/large"
        )
        with on_one_core(gateway.program):
            poller.delays(200)
            beside = median(poller.delays(2000))
        assert download.running
    assert beside < 2 * alone, f"{alone * 1e6:.0f} us alone, {beside * 1e6:.0f} us beside"
