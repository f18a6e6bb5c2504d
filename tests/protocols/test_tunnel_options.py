"""What a client and a gateway agree on beyond RTMPT."""

from __future__ import annotations

import pytest

from gateway.protocols.clients import GATEWAY, OTHER, is_direct, options_field, recognise
from gateway.protocols.http import Fields, RequestReader
from gateway.protocols.limits import Limits, StreamedAnswers
from gateway.protocols.stream_policy import Delivery, policy_for
from gateway.protocols.tunnel_client.requests import Requests
from gateway.protocols.tunnel_options import (
    LEAST_ANSWER_BYTES,
    MOST_LANES,
    ClientFigures,
    Idle,
    Options,
    agreed,
    idle_body,
    most_commands,
    next_answer_bytes,
    read_idle,
)

DIRECT = Requests("gateway.example").open()
WITH_CLIENT = Requests("gateway.example", "192.0.2.1").open()


def fields_of(request: bytes) -> Fields:
    reader = RequestReader(Limits())
    reader.receive(request)
    fields = reader.next_head()
    assert fields is not None
    return fields


@pytest.mark.parametrize("request_", [DIRECT, WITH_CLIENT])
def test_a_gateways_open_is_recognised_and_direct(request_: bytes) -> None:
    fields = fields_of(request_)
    assert recognise(fields) is GATEWAY
    assert is_direct(GATEWAY, fields)
    assert (
        options_field(fields, Limits(), 0.25) == b"RTMPT-Options: resume=128, hold=250, direct\r\n"
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"Connection: keep-alive\r\n", b""),
        (b"Connection: keep-alive", b"Connection: Keep-Alive"),
        (b"Content-Length", b"Via: 1.1 squid\r\nContent-Length"),
        (b"Content-Length", b"X-Forwarded-For: 10.0.0.1\r\nContent-Length"),
        (b"192.0.2.1", b"192.0.2.1, 10.0.0.1"),
        (b"Host: gateway.example\r\nConnection: keep-alive", b"Connection: keep-alive\r\nHost: a"),
    ],
)
def test_a_proxy_between_is_noticed(before: bytes, after: bytes) -> None:
    assert before in WITH_CLIENT
    fields = fields_of(WITH_CLIENT.replace(before, after))
    assert recognise(fields) is GATEWAY
    assert options_field(fields, Limits(), 2.0) == b"RTMPT-Options: resume=128, hold=2000\r\n"


def test_other_clients_are_answered_as_before() -> None:
    fields = fields_of(DIRECT.replace(b"RTMPT-Options: resume\r\n", b""))
    assert recognise(fields) is OTHER
    assert options_field(fields, Limits(), 0.25) == b""


@pytest.mark.parametrize(
    ("limits", "commands"),
    [
        (Limits(), 128),
        (Limits(down_buffer_bytes=64 * 1024), 32),
        (Limits(down_buffer_bytes=8192), 4),
        # Behind a proxy, each connection has a command.
        (Limits(window_commands=MOST_LANES), 128),
        (Limits(window_commands=MOST_LANES - 1), 0),
        (Limits(pipelined_requests=MOST_LANES - 1), 0),
    ],
)
def test_the_gateway_agrees_to_as_many_commands_as_it_keeps_answers_for(
    limits: Limits, commands: int
) -> None:
    assert most_commands(limits) == commands
    field = options_field(fields_of(DIRECT), limits, 0.25)
    value = b"resume=%d, hold=250, direct" % commands
    assert field == (b"RTMPT-Options: %b\r\n" % value if commands else b"")
    items = ((b"rtmpt-options", value),) if commands else ()
    assert agreed(items) == (Options(commands, True, 0.25) if commands else Options())
    assert policy(limits).resumes is (commands > 0)


def policy(limits: Limits, mode: StreamedAnswers = StreamedAnswers.DIRECT, via: bytes = b""):  # type: ignore[no-untyped-def]
    request = DIRECT.replace(b"Content-Length", via + b"Content-Length")
    return policy_for(GATEWAY, fields_of(request), mode, 1.0, limits)


@pytest.mark.parametrize("most_bytes", [4096, 100_000, 512 * 1024])
def test_all_answers_that_may_have_to_be_repeated_fit_into_the_limit(most_bytes: int) -> None:
    commands = most_commands(Limits(down_buffer_bytes=max(8192, 2 * most_bytes)))
    kept_bytes = 0
    for _ in range(commands):
        kept_bytes += next_answer_bytes(most_bytes, commands, kept_bytes)
    assert kept_bytes <= most_bytes
    assert next_answer_bytes(most_bytes, commands, kept_bytes) == LEAST_ANSWER_BYTES


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("unanswered", [0, 1, 126])
def test_the_body_of_an_idle_is_read_as_it_was_written(unanswered: int, whole: bool) -> None:
    assert read_idle(idle_body(unanswered, whole)) == Idle(unanswered, whole)


@pytest.mark.parametrize(
    ("figures", "read"),
    [
        (ClientFigures(0.0123, 0.4), ClientFigures(0.012, 0.4)),
        (ClientFigures(None, 0.0), ClientFigures(None, 0.0)),
        (ClientFigures(0.1, None), ClientFigures(0.1, None)),
        # The longest that it can say.
        (ClientFigures(90.0, 0.05), ClientFigures(65.534, 0.05)),
    ],
)
def test_an_idle_says_what_the_client_has_measured(
    figures: ClientFigures, read: ClientFigures
) -> None:
    body = idle_body(3, True, figures)
    assert read_idle(body) == Idle(3, True, read)
    for other in (body[:-1], body + b"\x00"):
        assert read_idle(other) == Idle(3, True)


def test_an_idle_of_other_clients_says_nothing() -> None:
    assert read_idle(b"") == read_idle(b"\x00") == Idle(None, False)
    # More than it can say, and no answer may be forgotten.
    assert read_idle(idle_body(127, whole=True)) == Idle(None, True)


@pytest.mark.parametrize(
    ("mode", "via", "cause"),
    [
        (StreamedAnswers.DIRECT, b"", Delivery.STREAMED),
        (StreamedAnswers.DIRECT, b"Via: a\r\n", Delivery.STREAMED),
        (StreamedAnswers.ALWAYS, b"Via: a\r\n", Delivery.STREAMED),
        (StreamedAnswers.NEVER, b"", Delivery.OFF),
    ],
)
def test_answers_are_streamed_through_proxies_too(
    mode: StreamedAnswers, via: bytes, cause: Delivery
) -> None:
    chosen = policy(Limits(), mode, via)
    assert (chosen.cause, chosen.resumes) == (cause, True)


def test_a_client_that_is_not_told_to_resume_gets_whole_answers() -> None:
    chosen = policy(Limits(window_commands=1))
    assert (chosen.cause, chosen.resumes, chosen.framing) == (Delivery.CLIENT, False, None)
