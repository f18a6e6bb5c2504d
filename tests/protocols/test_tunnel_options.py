"""What a client and a gateway agree on beyond RTMPT."""

from __future__ import annotations

import pytest

from gateway.protocols.clients import GATEWAY, OTHER, is_direct, options_field, recognise
from gateway.protocols.http import Fields, RequestReader
from gateway.protocols.limits import Limits, StreamedAnswers
from gateway.protocols.stream_policy import Delivery, policy_for
from gateway.protocols.tunnel_client.requests import Requests
from gateway.protocols.tunnel_options import (
    SMALL_BYTES,
    Options,
    agreed,
    most_commands,
    streamed_answer_bytes,
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
    assert options_field(fields, Limits()) == b"RTMPT-Options: resume=10, direct\r\n"


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
    assert options_field(fields, Limits()) == b"RTMPT-Options: resume=10\r\n"


def test_other_clients_are_answered_as_before() -> None:
    fields = fields_of(DIRECT.replace(b"RTMPT-Options: resume\r\n", b""))
    assert recognise(fields) is OTHER
    assert options_field(fields, Limits()) == b""


@pytest.mark.parametrize(
    ("limits", "commands"),
    [
        (Limits(), 10),
        (Limits(replay_answers=100), 32),
        (Limits(window_commands=5), 5),
        (Limits(pipelined_requests=3), 3),
        # One held command would keep all others waiting.
        (Limits(pipelined_requests=1), 0),
        (Limits(replay_bytes=64 * 1024), 0),
        (Limits(replay_bytes=8192, answer_bytes=4096, replay_answers=2), 0),
        (Limits(replay_bytes=12_288, answer_bytes=4096, replay_answers=2), 2),
    ],
)
def test_the_gateway_agrees_to_as_many_commands_as_it_keeps_answers_for(
    limits: Limits, commands: int
) -> None:
    assert most_commands(limits) == commands
    field = options_field(fields_of(DIRECT), limits)
    assert field == (b"RTMPT-Options: resume=%d, direct\r\n" % commands if commands else b"")
    items = ((b"rtmpt-options", b"resume=%d, direct" % commands),) if commands else ()
    assert agreed(items) == Options(commands, commands > 0)
    assert policy(limits).resumes is (commands > 0)


def policy(limits: Limits, mode: StreamedAnswers = StreamedAnswers.DIRECT, via: bytes = b""):  # type: ignore[no-untyped-def]
    request = DIRECT.replace(b"Content-Length", via + b"Content-Length")
    return policy_for(GATEWAY, fields_of(request), mode, 1.0, limits)


def test_all_answers_that_may_have_to_be_repeated_fit_into_the_limit() -> None:
    limits = Limits()
    others = most_commands(limits) * SMALL_BYTES
    assert limits.answer_bytes + others <= limits.replay_bytes
    assert streamed_answer_bytes(limits) + others <= limits.replay_bytes


@pytest.mark.parametrize(
    ("mode", "via", "cause"),
    [
        (StreamedAnswers.DIRECT, b"", Delivery.STREAMED),
        (StreamedAnswers.DIRECT, b"Via: a\r\n", Delivery.PROXY),
        (StreamedAnswers.ALWAYS, b"Via: a\r\n", Delivery.STREAMED),
        (StreamedAnswers.NEVER, b"", Delivery.OFF),
    ],
)
def test_answers_are_streamed_as_to_other_clients(
    mode: StreamedAnswers, via: bytes, cause: Delivery
) -> None:
    chosen = policy(Limits(), mode, via)
    assert (chosen.cause, chosen.resumes) == (cause, True)


def test_a_client_that_is_not_told_to_resume_gets_whole_answers() -> None:
    chosen = policy(Limits(replay_bytes=64 * 1024))
    assert (chosen.cause, chosen.resumes, chosen.framing) == (Delivery.CLIENT, False, None)
