"""HTTP as sent by curl and by proxies: the same tunnel in all forms of HTTP/1."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from attrs import frozen

from tests.helpers.interop.programs import Programs, needs
from tests.helpers.interop.servers import ANY_PORT, LOOPBACK, start_gateway
from tests.interop.conftest import Upstream

_GIVE_UP_S = 10
# RTMP's version 3 and the client's first block: time, zero, and what should be random.
_C0_C1 = b"\x03" + bytes(8) + b"r" * 1528
_S0_S1_S2_BYTES = 1 + 1536 + 1536
# The time that curl waits for "100 Continue" before it sends the body anyway.
_CURL_WAITS_S = 1.0


@frozen
class Done:
    """The output of curl: all heads, the last body, and the values of ``--write-out``."""

    head: str
    body: bytes
    written: list[str]


Curl = Callable[..., Done]


@pytest.fixture
def upstream(origin: Upstream) -> Upstream:
    """Any one upstream is sufficient for these tests."""
    return origin


@pytest.fixture
def curl(programs: Programs) -> Curl:
    return partial(_curl, programs)


def _curl(programs: Programs, *words: str, data: bytes = b"\x00", write: str = "") -> Done:
    """POST ``data`` with curl and the arguments ``words``."""
    folder = programs.new_folder("curl")
    (folder / "data").write_bytes(data)
    outputs = ["--output", "body"] * sum(word.startswith("http://") for word in words)
    files = ("--data-binary", "@data", "--dump-header", "head", *outputs)
    limits = ("--silent", "--show-error", "--max-time", str(_GIVE_UP_S))
    command = [needs("curl"), *limits, *files, "--write-out", f"{write}\n", *words]
    done = subprocess.run(
        command, cwd=folder, check=True, stdin=subprocess.DEVNULL, capture_output=True
    )
    return Done(_text(folder / "head"), _bytes(folder / "body"), done.stdout.decode().split())


def _text(file: Path) -> str:
    return file.read_bytes().decode() if file.exists() else ""


def _bytes(file: Path) -> bytes:
    return file.read_bytes() if file.exists() else b""


def at(port: int, path: str) -> str:
    return f"http://{LOOPBACK}:{port}/{path}"


def opened(curl: Curl, gateway: int) -> str:
    return curl(at(gateway, "open/1")).body.decode().strip()


def assert_handshake_is_answered(curl: Curl, gateway: int, session: str, first: Done) -> None:
    """The upstream has received C0 and C1 completely and once."""
    answers = first.body[1:]
    number = 1
    while len(answers) < _S0_S1_S2_BYTES:
        idle = curl(at(gateway, f"idle/{session}/{number}"))
        assert "200 OK" in idle.head
        answers += idle.body[1:]
        number += 1
    assert len(answers) == _S0_S1_S2_BYTES
    assert answers[0] == 3


def test_a_body_that_waits_for_100_continue_is_sent_upstream(curl: Curl, gateway: int) -> None:
    session = opened(curl, gateway)
    send = curl(
        *("--header", "Expect: 100-continue", at(gateway, f"send/{session}/0")),
        data=_C0_C1,
        write="%{time_total}",
    )
    assert send.head.startswith("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")
    assert float(send.written[0]) < _CURL_WAITS_S
    assert_handshake_is_answered(curl, gateway, session, send)


def test_a_chunked_body_is_sent_upstream(curl: Curl, gateway: int) -> None:
    session = opened(curl, gateway)
    chunked = ("--header", "Transfer-Encoding: chunked")
    send = curl(*chunked, at(gateway, f"send/{session}/0"), data=_C0_C1)
    assert_handshake_is_answered(curl, gateway, session, send)


def test_http_1_0_commands_with_keep_alive_share_one_connection(curl: Curl, gateway: int) -> None:
    session = opened(curl, gateway)
    commands = [at(gateway, f"idle/{session}/{number}") for number in range(3)]
    idles = curl(
        *("--http1.0", "--header", "Connection: keep-alive", *commands),
        write="%{http_code}:%{num_connects}",
    )
    assert idles.written == ["200:1", "200:0", "200:0"]
    assert idles.body == b"\x01"
    assert idles.head.count("Connection: keep-alive\r\n") == 3


def test_an_http_1_0_command_without_keep_alive_closes_the_connection(
    curl: Curl, gateway: int
) -> None:
    session = opened(curl, gateway)
    idle = curl("--http1.0", at(gateway, f"idle/{session}/0"))
    assert "Connection: close\r\n" in idle.head
    assert idle.body == b"\x01"


def test_commands_in_the_absolute_form_for_proxies_are_served(curl: Curl, gateway: int) -> None:
    through = ("--proxy", at(gateway, ""))
    session = curl(*through, "http://media.example/open/1").body.decode().strip()
    send = curl(*through, f"http://media.example/send/{session}/0", data=_C0_C1)
    assert_handshake_is_answered(curl, gateway, session, send)


def test_a_command_for_an_unknown_session_gets_404_with_an_empty_body(
    curl: Curl, gateway: int
) -> None:
    idle = curl(at(gateway, "idle/nobody/1"))
    assert idle.head.startswith("HTTP/1.1 404 ")
    assert idle.body == b""


def test_an_open_gets_503_with_an_empty_body_if_the_upstream_refuses(
    curl: Curl, programs: Programs, refusing_port: int
) -> None:
    _, port = start_gateway(programs, *ANY_PORT, "--upstream", f"{LOOPBACK}:{refusing_port}")
    refused = curl(at(port, "open/1"))
    assert refused.head.startswith("HTTP/1.1 503 ")
    assert refused.body == b""
