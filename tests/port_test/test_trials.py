"""Trials of servers in the same event loop: each kind of failure is told, and none outlasts its time."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable
from time import monotonic

import pytest
import trustme

from gateway.http_proxies import Proxies, parse_proxy
from gateway.port_test.observations import Failure, Kind, Step, Trial
from gateway.port_test.trials import Plan, run_trials
from gateway.port_test.ways import Route, parse_target, parse_way
from gateway.protocols.rtmp.amf import Value
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.commands import Command
from gateway.protocols.rtmp.handshake import BLOCK_BYTES
from tests.port_test.servers import LOOPBACK, Handler, Tunnel, page, rtmp, saying, serving

# Long enough for a machine that is busy with other tests.
TIMEOUT_S = 2.0
SHORT_S = 0.5


def tried(
    handler: Handler,
    protocol: str,
    *,
    path: str = "",
    host: str = LOOPBACK,
    tls: ssl.SSLContext | None = None,
    trust: ssl.SSLContext | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Trial:
    """One way to a server of ``handler``, tried."""

    async def run() -> Trial:
        async with serving(handler, tls) as port:
            plan = plan_of(f"{host}{path}", f"{protocol}:{port}", trust=trust, timeout_s=timeout_s)
            (trial,) = await run_trials(plan, lambda trials: None)
            return trial

    return asyncio.run(run())


def plan_of(
    target: str,
    way: str,
    *,
    trust: ssl.SSLContext | None = None,
    proxies: Proxies | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Plan:
    context = trust or ssl.create_default_context()
    return Plan(parse_target(target), [parse_way(way)], context, proxies or Proxies(), timeout_s)


def failure_of(trial: Trial) -> tuple[Step, Kind]:
    assert isinstance(trial.failure, Failure)
    assert not trial.works
    return trial.failure.step, trial.failure.kind


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(organization_name="Test authority")


def server_context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


# --- Ways that work ---


def test_rtmp_works_with_its_application_and_round_trip() -> None:
    trial = tried(rtmp, "rtmp", path="/live")
    assert trial.works
    assert trial.code == "NetConnection.Connect.Success"
    assert trial.round_trip_ms is not None
    assert set(trial.times_ms) == {
        *(Step.LOOK_UP, Step.CONNECT, Step.HANDSHAKE, Step.APPLICATION, Step.ROUND_TRIP)
    }


def test_rtmp_in_tls_works_and_shows_the_certificate(authority: trustme.CA) -> None:
    tls = server_context(authority, LOOPBACK)
    trial = tried(rtmp, "rtmps", tls=tls, trust=trusting(authority))
    assert trial.works
    assert trial.tls_version.startswith("TLSv1.")
    assert trial.certificate is not None
    assert trial.certificate.names == (LOOPBACK,)
    assert "Test authority" in trial.certificate.issuer


def test_a_tunnel_works_and_its_commands_are_numbered_from_zero() -> None:
    tunnel = Tunnel()
    trial = tried(tunnel, "rtmpt", path="/live")
    assert trial.works
    numbers = [int(command.split("/")[3]) for command in tunnel.commands[1:]]
    assert numbers == list(range(len(numbers)))
    assert tunnel.commands[0] == "/open/1"
    assert tunnel.commands[-1].startswith("/close/session/")
    assert trial.holding is not None
    assert trial.holding.held_ms is not None
    assert trial.holding.held_ms >= 50
    assert not trial.holding.closes


def test_a_tunnel_whose_connections_are_closed_after_each_answer_works_and_this_is_noted() -> None:
    trial = tried(Tunnel(closes=True), "rtmpt", path="/live")
    assert trial.works
    assert trial.holding is not None
    assert trial.holding.closes


def test_a_cut_idle_is_repeated_once_with_its_number_and_noted() -> None:
    tunnel = Tunnel(hold_s=9.0, cut_after_s=0.2)
    trial = tried(tunnel, "rtmpt", path="/live")
    assert trial.works
    assert trial.holding is not None
    assert trial.holding.cut_after_ms is not None
    assert 200 <= trial.holding.cut_after_ms < 600
    idles = [command for command in tunnel.commands if command.startswith("/idle/")]
    assert len(idles) == 2
    assert idles[0] == idles[1]


def test_a_stream_that_is_not_published_does_not_fail_the_way() -> None:
    trial = tried(rtmp, "rtmp", path="/live/nothing", timeout_s=1.0)
    assert trial.works
    assert (trial.media, trial.stream_code) == (False, "NetStream.Play.Start")


# --- Failures ---

PLAIN_FAILURES = {
    "a web server": (saying(page("400 Bad Request")), Kind.SPEAKS_HTTP),
    "a web page": (saying(b"<html>"), Kind.SPEAKS_HTTP),
    "TLS": (saying(b"\x15\x03\x01\x00\x02\x02\x16"), Kind.SPEAKS_TLS),
    "SSH": (saying(b"SSH-2.0-OpenSSH_9.2\r\n"), Kind.SPEAKS_OTHER),
    "a filter": (saying(b"", then_wait=False), Kind.CLOSED),
    "a filter after a byte": (saying(b"\x03", then_wait=False), Kind.CLOSED),
}


@pytest.mark.parametrize("name", PLAIN_FAILURES)
def test_what_answers_rtmp_is_told(name: str) -> None:
    handler, kind = PLAIN_FAILURES[name]
    assert failure_of(tried(handler, "rtmp")) == (Step.HANDSHAKE, kind)


TUNNEL_FAILURES = {
    "a web server": (page("404 Not Found"), Kind.STATUS, 404),
    "a portal": (page("302 Found", "Location: http://log.in/"), Kind.STATUS, 302),
    "a proxy": (page("407 Proxy Authentication Required"), Kind.STATUS, 407),
    "a page": (page("200 OK"), Kind.NOT_A_TUNNEL, None),
    "SSH": (b"SSH-2.0-OpenSSH_9.2\r\n", Kind.SPEAKS_OTHER, None),
    "TLS": (b"\x15\x03\x01\x00\x02\x02\x16", Kind.SPEAKS_TLS, None),
    "bad HTTP": (b"HTTP/1.1 2000 OK\r\n\r\n", Kind.SPEAKS_HTTP, None),
}


@pytest.mark.parametrize("name", TUNNEL_FAILURES)
def test_what_answers_open_is_told(name: str) -> None:
    answer, kind, status = TUNNEL_FAILURES[name]
    trial = tried(saying(answer), "rtmpt")
    assert failure_of(trial) == (Step.OPEN, kind)
    assert trial.failure is not None
    assert trial.failure.status == status


def test_a_filter_that_closes_after_open_is_told() -> None:
    assert failure_of(tried(saying(b"", then_wait=False), "rtmpt")) == (Step.OPEN, Kind.CLOSED)


async def refusing_with_a_reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As tinyproxy: its page is lost by the reset that follows."""
    await reader.readuntil(b"\r\n\r\n")
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.write(b"HTTP/1.0 407 Proxy Authentication Required\r\n\r\n<html>")
    writer.transport.abort()


def test_a_refusal_is_told_though_a_reset_follows() -> None:
    trial = tried(refusing_with_a_reset, "rtmpt")
    assert failure_of(trial) == (Step.OPEN, Kind.STATUS)
    assert trial.failure is not None
    assert trial.failure.status == 407


@pytest.mark.parametrize(
    ("protocol", "step"),
    [("rtmp", Step.HANDSHAKE), ("rtmps", Step.TLS), ("rtmpt", Step.OPEN), ("rtmpts", Step.TLS)],
)
def test_a_silent_port_is_told_in_time(protocol: str, step: Step) -> None:
    began = monotonic()
    assert failure_of(tried(saying(b""), protocol, timeout_s=SHORT_S)) == (step, Kind.NO_ANSWER)
    assert monotonic() - began < SHORT_S + 0.5


def test_an_answer_of_a_byte_now_and_then_does_not_extend_the_time() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"\x03")
            await writer.drain()
            await asyncio.sleep(0.02)

    began = monotonic()
    assert failure_of(tried(drip, "rtmp", timeout_s=SHORT_S)) == (Step.HANDSHAKE, Kind.NO_ANSWER)
    assert monotonic() - began < SHORT_S + 0.5


def test_a_port_without_listener_is_refused() -> None:
    with socket.socket() as bound:
        bound.bind((LOOPBACK, 0))
        plan = plan_of(LOOPBACK, f"rtmp:{bound.getsockname()[1]}")
        (trial,) = asyncio.run(run_trials(plan, lambda trials: None))
    assert failure_of(trial) == (Step.CONNECT, Kind.REFUSED)


def test_an_unknown_name_is_one_failure_for_each_way() -> None:
    plan = plan_of("no-such-name.invalid", "rtmp")
    (trial,) = asyncio.run(run_trials(plan, lambda trials: None))
    step, kind = failure_of(trial)
    assert step is Step.LOOK_UP
    # A machine without name server cannot tell.
    assert kind in (Kind.UNKNOWN_NAME, Kind.NO_NAME_SERVER)


async def rejecting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An RTMP server without applications."""
    hello = await reader.readexactly(1 + BLOCK_BYTES)
    writer.write(b"\x03" + bytes(BLOCK_BYTES) + hello[1:])
    await reader.readexactly(BLOCK_BYTES + 1)
    words: Value = {"code": "NetConnection.Connect.Rejected", "description": "no such application"}
    writer.write(ChunkWriter().write(Command("_error", 1.0, None, (words,)).message()))
    await reader.read()


def test_a_rejected_application_is_told_with_the_servers_words() -> None:
    trial = tried(rejecting, "rtmp", path="/none")
    assert failure_of(trial) == (Step.APPLICATION, Kind.REJECTED)
    assert trial.failure is not None
    assert trial.failure.detail == "NetConnection.Connect.Rejected no such application"


# --- TLS ---


def test_a_certificate_of_another_authority_is_told_with_its_issuer(authority: trustme.CA) -> None:
    other = trustme.CA(organization_name="Inspecting proxy")
    trial = tried(rtmp, "rtmps", tls=server_context(other, LOOPBACK), trust=trusting(authority))
    assert failure_of(trial) == (Step.TLS, Kind.NOT_TRUSTED)
    assert trial.certificate is not None
    assert "Inspecting proxy" in trial.certificate.issuer
    assert trial.tls_version


def test_a_certificate_for_another_name_is_told(authority: trustme.CA) -> None:
    tls = server_context(authority, "portal.example.org")
    trial = tried(rtmp, "rtmpts", tls=tls, trust=trusting(authority))
    assert failure_of(trial) == (Step.TLS, Kind.OTHER_NAME)
    assert trial.certificate is not None
    assert trial.certificate.names == ("portal.example.org",)


def test_a_port_without_tls_is_told() -> None:
    trial = tried(saying(page("400 Bad Request")), "rtmps")
    assert failure_of(trial) == (Step.TLS, Kind.NOT_TLS)


def test_a_filter_that_closes_tls_is_told() -> None:
    assert failure_of(tried(saying(b"", then_wait=False), "rtmps")) == (Step.TLS, Kind.CLOSED)


# --- Proxies ---


def through_proxy(handler: Handler, protocol: str, url: str = "http://{}:{}") -> tuple[Trial, ...]:
    async def run() -> tuple[Trial, ...]:
        async with serving(handler) as port:
            proxy = parse_proxy(url.format(LOOPBACK, port))
            plan = plan_of("no-such-name.invalid", protocol, proxies=Proxies(proxy, proxy))
            return tuple(await run_trials(plan, lambda trials: None))

    return asyncio.run(run())


def refusing(status: str, seen: Callable[[bytes], object]) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen(await reader.readuntil(b"\r\n\r\n"))
        writer.write(page(status))
        await reader.read()

    return handler


_FIRST_LINES = [
    ("rtmps", Step.PROXY, b"CONNECT no-such-name.invalid:443 HTTP/1.1\r\n"),
    ("rtmpts", Step.PROXY, b"CONNECT no-such-name.invalid:443 HTTP/1.1\r\n"),
    ("rtmpt", Step.OPEN, b"POST http://no-such-name.invalid:80/open/1 HTTP/1.1\r\n"),
]


@pytest.mark.parametrize(("protocol", "step", "line"), _FIRST_LINES)
def test_a_proxys_refusal_has_its_status(protocol: str, step: Step, line: bytes) -> None:
    heads: list[bytes] = []
    handler = refusing("403 Forbidden", heads.append)
    direct, proxied = through_proxy(handler, protocol, "http://ann:secret@{}:{}")
    assert direct.route is Route.IPV4
    assert proxied.failure == Failure(step, Kind.STATUS, "", 403)
    (head,) = heads
    assert head.startswith(line)
    assert b"Proxy-Authorization" not in head


@pytest.mark.parametrize(("protocol", "step", "line"), _FIRST_LINES)
@pytest.mark.parametrize(
    ("challenge", "answer"),
    [
        ('Basic realm="r"', b"\r\nProxy-Authorization: Basic YW5uOnNlY3JldA==\r\n"),
        (
            'Digest realm="r", nonce="n", qop="auth", Basic realm="r"',
            b'\r\nProxy-Authorization: Digest username="ann", realm="r", nonce="n", uri="',
        ),
    ],
)
def test_credentials_are_sent_when_the_proxy_asks_for_them(
    protocol: str, step: Step, line: bytes, challenge: str, answer: bytes
) -> None:
    heads: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        heads.append(head)
        asks = f"Proxy-Authenticate: {challenge}"
        writer.write(page("403 Now" if b"Authorization" in head else "407 Who", asks))

    proxied = through_proxy(handler, protocol, "http://ann:secret@{}:{}")[1]
    assert proxied.failure == Failure(step, Kind.STATUS, "", 403)
    first, second = heads
    assert answer in second
    assert second.startswith(line)
    assert first.startswith(line)


def test_wrong_credentials_are_told() -> None:
    handler = refusing('407 Who\r\nProxy-Authenticate: Basic realm="r"', lambda head: None)
    proxied = through_proxy(handler, "rtmps", "http://ann:wrong@{}:{}")[1]
    said = "it does not accept the name and password"
    assert proxied.failure == Failure(Step.PROXY, Kind.STATUS, said, 407)


def test_a_proxy_that_is_none_is_told() -> None:
    _, proxied = through_proxy(saying(b"SSH-2.0-OpenSSH_9.2\r\n"), "rtmps")
    assert failure_of(proxied) == (Step.PROXY, Kind.SPEAKS_OTHER)


def test_plain_rtmp_is_not_sent_to_a_proxy() -> None:
    trials = through_proxy(rtmp, "rtmp")
    assert [trial.route for trial in trials] == [Route.IPV4]


def test_a_failure_of_one_trial_leaves_the_others() -> None:
    async def run() -> list[Trial]:
        async with serving(rtmp) as good, serving(saying(b"", then_wait=False)) as bad:
            plan = plan_of(LOOPBACK, "rtmp")
            ways = [parse_way(f"rtmp:{port}") for port in (bad, good)]
            return await run_trials(
                Plan(plan.target, ways, plan.context, Proxies(), TIMEOUT_S), lambda trials: None
            )

    assert [trial.works for trial in asyncio.run(run())] == [False, True]
