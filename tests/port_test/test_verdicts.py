"""Sentences on failures and remarks, by the tables of verdicts.py."""

from __future__ import annotations

import re

import pytest
from attrs import evolve

from gateway.port_test.observations import Delivery, Holding, Kind, Step, Trial
from gateway.port_test.verdicts import ROWS, remarks_on, verdict_on
from gateway.port_test.ways import Route
from tests.port_test.making import CERTIFICATE, failed, works

EVERY_ROW = [(step, kind) for step, rows in ROWS.items() for kind in rows]


@pytest.mark.parametrize(("step", "kind"), EVERY_ROW)
def test_every_row_is_one_complete_sentence(step: Step, kind: Kind) -> None:
    trial = failed("rtmps", step, kind, detail="said so", status=418)
    trial.certificate = CERTIFICATE
    sentence = verdict_on(trial)
    assert re.fullmatch(r"[^{}\n]{20,200}[^.{}\n]", sentence)
    assert "please report" not in sentence


@pytest.mark.parametrize(
    ("trial", "said"),
    [
        (failed("rtmp", Step.LOOK_UP, Kind.UNKNOWN_NAME), "the name is unknown"),
        (failed("rtmp", Step.CONNECT, Kind.NO_ANSWER), "packets vanish: a firewall drops them"),
        (
            failed("rtmp:80", Step.CONNECT, Kind.REFUSED),
            "refused: nothing listens on port 80, or a fire",
        ),
        (failed("rtmp", Step.HANDSHAKE, Kind.SPEAKS_HTTP), "the port answers but speaks HTTP only"),
        (
            failed("rtmp", Step.HANDSHAKE, Kind.CLOSED),
            "closed after the first bytes: a filter that",
        ),
        (failed("rtmp", Step.HANDSHAKE, Kind.SPEAKS_TLS), "the port speaks TLS: use rtmps"),
        (failed("rtmp", Step.APPLICATION, Kind.REJECTED, detail="no such app"), "no such app"),
        (failed("rtmpt", Step.OPEN, Kind.STATUS, status=404), "HTTP only, not RTMPT"),
        (failed("rtmpt", Step.OPEN, Kind.STATUS, status=302), "captive portal"),
        (
            failed("rtmpt", Step.OPEN, Kind.STATUS, status=407, detail="give --proxy"),
            "an HTTP proxy answers 407: give --proxy",
        ),
        (failed("rtmpt", Step.OPEN, Kind.STATUS, status=418), "open gets 418"),
    ],
)
def test_a_failure_says_what_is_between(trial: Trial, said: str) -> None:
    assert said in verdict_on(trial)


@pytest.mark.parametrize(
    ("way", "step", "status", "said"),
    [
        (
            "rtmps:8443",
            Step.PROXY,
            403,
            "the proxy answers 403: its rules forbid CONNECT to port 8443",
        ),
        ("rtmps", Step.PROXY, 407, "an HTTP proxy answers 407: "),
        ("rtmps", Step.PROXY, 401, "the proxy answers 401: it does not accept the name and"),
        ("rtmpt", Step.OPEN, 401, "the proxy answers 401: it does not accept the name and"),
        ("rtmps", Step.PROXY, 502, "the proxy answers 502: it cannot connect to port 443"),
        ("rtmps", Step.PROXY, 418, "the proxy answers 418 to CONNECT"),
        ("rtmpt", Step.OPEN, 403, "the proxy answers 403: its rules forbid the server or the port"),
        ("rtmpt", Step.OPEN, 502, "the proxy answers 502: it cannot connect to port 80"),
        ("rtmpt", Step.OPEN, 404, "HTTP only, not RTMPT"),
    ],
)
def test_a_proxys_refusal_is_said_in_words(way: str, step: Step, status: int, said: str) -> None:
    trial = failed(way, step, Kind.STATUS, status=status, route=Route.PROXY)
    assert said in verdict_on(trial)


def test_a_status_through_connect_is_that_of_the_server() -> None:
    trial = failed("rtmpts", Step.OPEN, Kind.STATUS, status=403, route=Route.PROXY)
    assert "the proxy answers" not in verdict_on(trial)


def inspected() -> Trial:
    trial = failed("rtmps", Step.TLS, Kind.NOT_TRUSTED)
    trial.certificate = evolve(CERTIFICATE, issuer="Inspecting CA")
    return trial


def trusted(route: Route = Route.IPV6) -> Trial:
    trial = works("rtmps", route)
    trial.certificate = CERTIFICATE
    trial.times_ms[Step.TLS] = 5.0
    return trial


def test_an_untrusted_certificate_is_named_with_its_issuer() -> None:
    said = verdict_on(inspected())
    assert 'a proxy that inspects TLS replaced the certificate (issuer "Inspecting CA")' in said
    assert "unless the server has an authority of its own" in said


def test_a_trusted_certificate_on_another_way_proves_the_replacement() -> None:
    said = verdict_on(inspected(), [inspected(), trusted()])
    assert said.startswith(
        'a proxy replaced the certificate (issuer "Inspecting CA"; another way shows "Public CA")'
    )


def test_a_trusted_authority_of_a_proxy_shows_beside_the_direct_certificate() -> None:
    proxied = trusted(Route.PROXY)
    proxied.certificate = evolve(CERTIFICATE, issuer="Company CA")
    assert remarks_on(proxied, [proxied, trusted()]) == [
        'the proxy inspects TLS: its certificate is by "Company CA", the server\'s by "Public CA"'
    ]
    assert remarks_on(trusted(Route.PROXY), [trusted()]) == []


def test_a_certificate_that_ends_soon_is_remarked() -> None:
    trial = trusted()
    trial.certificate = evolve(CERTIFICATE, days_left=3)
    assert remarks_on(trial) == ["the certificate ends in 3 days"]


@pytest.mark.parametrize(
    ("holding", "said"),
    [
        (Holding(held_ms=250.0), []),
        (
            Holding(cut_after_ms=1004.0),
            ["something on the way cuts a request that waits for 1.0 s"],
        ),
        (
            Holding(closes=True),
            ["a proxy closes the connection after an answer: FFmpeg gives up on that"],
        ),
        (
            Holding(delivery=Delivery.BUFFERED),
            ["answers are buffered on the way, so that the stream comes in bursts"],
        ),
        (Holding(delivery=Delivery.STREAMED), []),
    ],
)
def test_what_disturbs_a_tunnel_is_remarked(holding: Holding, said: list[str]) -> None:
    trial = works("rtmpt")
    trial.holding = holding
    assert remarks_on(trial) == said


@pytest.mark.parametrize(
    ("media", "code", "said"),
    [
        (None, "", []),
        (True, "NetStream.Play.Start", ["the stream plays"]),
        (
            False,
            "NetStream.Play.StreamNotFound",
            [
                "the stream sent no media (NetStream.Play.StreamNotFound), so it may not be published"
            ],
        ),
        (False, "", ["the stream sent no media (no answer to play), so it may not be published"]),
    ],
)
def test_the_stream_is_remarked_with_its_code(
    media: bool | None, code: str, said: list[str]
) -> None:
    trial = works("rtmp")
    trial.media, trial.stream_code = media, code
    assert remarks_on(trial) == said
