"""Ways through HTTP proxies, and the issuer of a certificate that is refused."""

from __future__ import annotations

import ssl

import trustme
from twisted.internet.protocol import Factory

from gateway.client.proxied_ways import ProxiedWay
from gateway.http_proxies import Proxies, ProxyURL
from gateway.port_test.ways import Protocol, Way, parse_way
from tests.client.stage import ANSWER, HELLO, Recorder, Server, Stage
from tests.helpers.logged import logged
from tests.upstreams.network import LOOPBACK
from tests.upstreams.secure_servers import SecureServer

CONNECT = b"CONNECT no-such-name.invalid:1935 HTTP/1.1\r\n"
WAY = ProxiedWay(Protocol.RTMP, 1935)


def proxy_says(*words: bytes) -> Server:
    """A proxy that answers each read with the next words."""

    def says(connection: Recorder) -> None:
        if said:
            connection.wire.write(said.pop(0))

    said = list(words)
    return Server(says)


def through(stage: Stage, proxy: Factory) -> Proxies:
    url = ProxyURL(stage.network.listen(proxy))
    return Proxies(url, url)


def test_a_stream_goes_through_the_proxy_though_the_gateways_name_is_unknown(stage: Stage) -> None:
    proxy = proxy_says(b"HTTP/1.1 200 OK\r\n\r\n", ANSWER)
    ways = (parse_way("rtmp:1935"), WAY)
    stage.start(*ways, host="no-such-name.invalid", proxies=through(stage, proxy))
    program = stage.program()
    stage.until(lambda: program.received == ANSWER)
    received = proxy.connections[0].received
    assert received.startswith(CONNECT)
    assert received.endswith(b"\r\n\r\n" + HELLO)
    assert stage.count("rtmpt_client_races_total", way="rtmp:1935 by proxy", result="won") == 1


def test_the_refusal_of_a_proxy_is_logged_with_its_name_and_status(stage: Stage) -> None:
    proxies = through(stage, proxy_says(b"HTTP/1.1 403 Forbidden\r\n\r\n"))
    with logged() as lines:
        stage.start(WAY, host="no-such-name.invalid", proxies=proxies)
        program = stage.program()
        stage.until(lambda: program.is_lost)
    refusal = "refused CONNECT to no-such-name.invalid:1935: 403 Forbidden"
    assert proxies.plain is not None
    assert any(f"proxy {proxies.plain.server} {refusal}" in line for line in lines)


def test_a_proxy_that_does_not_answer_is_told(stage: Stage) -> None:
    with logged() as lines:
        stage.start(WAY, proxies=through(stage, proxy_says()), timeout_s=0.3)
        program = stage.program()
        stage.until(lambda: program.is_lost)
    assert any("the proxy does not answer in time" in line for line in lines) or any(
        "does not answer to CONNECT in time" in line for line in lines
    )


def test_the_issuer_of_a_refused_certificate_is_named(stage: Stage) -> None:
    company = trustme.CA(organization_name="Company proxy")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    company.issue_cert(LOOPBACK).configure_cert(context)
    server = SecureServer(stage.network, context)
    with logged() as lines:
        stage.start(Way(Protocol.RTMPS, server.address.port))
        program = stage.program()
        stage.until(lambda: program.is_lost)
    assert any('authority of the certificate, "Company proxy", is not' in line for line in lines)
    # On the second connection, which has read it.
    (connection,) = server.connections
    stage.until(lambda: connection.has_ended)
    assert connection.received == b""
