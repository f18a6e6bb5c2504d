"""Callbacks: their parameters and answers, and timeouts. tests/interop/test_access.py has real calls."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import ConnectError, ConnectionDone, DNSLookupError
from twisted.internet.protocol import Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.web.client import RequestTransmissionFailed, ResponseFailed, ResponseNeverReceived
from twisted.web.http_headers import Headers

from gateway.protocols.access import ALLOWED, AccessRequest, Action, Verdict, Visitor
from gateway.upstreams import callbacks
from gateway.upstreams.callbacks import Callbacks, CallbackSettings

VISITOR = Visitor("n1", "192.0.2.1")
PUBLISH = AccessRequest(Action.PUBLISH, "live", "cam?key=x&app=evil&addr=10.0.0.1&name=y&key=z")
CONNECT = AccessRequest(Action.CONNECT, "live")


def made(*names: str, allows_on_failure: bool = False) -> tuple[Callbacks, MemoryReactorClock]:
    reactor: Any = MemoryReactorClock()
    urls = {name: f"http://127.0.0.1/{name}" for name in names}
    settings = CallbackSettings(urls, "post", 2.0, allows_on_failure)
    return Callbacks(reactor, settings), reactor


def test_an_action_without_a_callback_is_allowed_at_once() -> None:
    calls, _ = made("play")
    assert calls.judge(PUBLISH, VISITOR) is ALLOWED


def test_a_clients_arguments_never_take_the_place_of_parameters() -> None:
    parameters = callbacks._parameters(PUBLISH, VISITOR)
    assert (parameters["app"], parameters["name"]) == ("live", "cam")
    arguments = callbacks._other_arguments(PUBLISH.query, parameters)
    assert arguments == [("key", "x"), ("key", "z")]


def test_too_many_arguments_are_left_out() -> None:
    assert callbacks._other_arguments("a=&" * 200, {}) == []


@pytest.mark.parametrize(
    ("request_", "status", "location", "expected"),
    [
        (PUBLISH, 200, "", ALLOWED),
        (PUBLISH, 204, "ignored", ALLOWED),
        (PUBLISH, 302, "other?a=b", Verdict(stream="other?a=b")),
        (CONNECT, 302, "other", callbacks._REFUSED),
        (PUBLISH, 302, "", callbacks._REFUSED),
        (PUBLISH, 302, "rtmp://other/app/name", callbacks._REFUSED),
        (PUBLISH, 302, "other\0", callbacks._REFUSED),
        (PUBLISH, 403, "", callbacks._REFUSED),
        (PUBLISH, 500, "", callbacks._REFUSED),
    ],
)
def test_the_status_decides(
    request_: AccessRequest, status: int, location: str, expected: Verdict
) -> None:
    assert callbacks._verdict(request_, status, location) == expected


def test_parameters_follow_a_query_of_the_url() -> None:
    assert callbacks._with_query("http://h/a?b=c", "call=play") == "http://h/a?b=c&call=play"
    assert callbacks._with_query("http://h/a", "call=play") == "http://h/a?call=play"


@pytest.mark.parametrize("allows", [True, False])
def test_calls_over_the_limit_fail(monkeypatch: pytest.MonkeyPatch, allows: bool) -> None:
    monkeypatch.setattr(callbacks, "_MOST_CALLS", 1)
    calls, _ = made("publish", allows_on_failure=allows)
    first, second = calls.judge(PUBLISH, VISITOR), calls.judge(PUBLISH, VISITOR)
    assert isinstance(first, Deferred)
    assert isinstance(second, Deferred)
    assert not first.called
    verdicts: list[Verdict] = []
    second.addCallback(verdicts.append)
    assert verdicts == [ALLOWED if allows else callbacks._UNDECIDED]
    assert calls.results["publish", "failed"] == 1
    first.cancel()


def test_a_late_call_fails_and_is_forgotten() -> None:
    calls, reactor = made("publish")
    verdicts: list[Verdict] = []
    judged = calls.judge(PUBLISH, VISITOR)
    assert isinstance(judged, Deferred)
    judged.addCallback(verdicts.append)
    reactor.advance(2.0)
    assert verdicts == [callbacks._UNDECIDED]
    assert not calls._calls
    assert calls.results["publish", "failed"] == 1


@pytest.mark.parametrize(
    "error",
    [
        ConnectError(),
        DNSLookupError("no results for hostname lookup: callbacks.example.org"),
        ResponseNeverReceived([Failure(ConnectionDone())]),
        ResponseFailed([Failure(ConnectionDone())]),
        RequestTransmissionFailed([Failure(ConnectionDone())]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_failure_of_a_call_is_counted_and_decided(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    calls, _ = made("publish", allows_on_failure=True)
    monkeypatch.setattr(calls, "_request", lambda *_: fail(error))
    verdicts: list[Verdict] = []
    judged = calls.judge(PUBLISH, VISITOR)
    assert isinstance(judged, Deferred)
    judged.addCallback(verdicts.append)
    assert verdicts == [ALLOWED]
    assert calls.results["publish", "failed"] == 1


class Redirect:
    """A response with status 302."""

    code = 302

    def __init__(self, location: bytes) -> None:
        self.headers = Headers({b"location": [location]})

    def deliverBody(self, protocol: Protocol) -> None: ...


@pytest.mark.parametrize(
    ("location", "verdict"),
    [
        ("straße".encode(), Verdict(stream="straße")),
        (b"caf\xe9", callbacks._REFUSED),
        (b"a\xff\xfe", callbacks._REFUSED),
    ],
)
def test_a_location_that_is_not_utf_8_refuses(
    monkeypatch: pytest.MonkeyPatch, location: bytes, verdict: Verdict
) -> None:
    calls, _ = made("publish")
    monkeypatch.setattr(calls, "_request", lambda *_: succeed(Redirect(location)))
    verdicts: list[Verdict] = []
    judged = calls.judge(PUBLISH, VISITOR)
    assert isinstance(judged, Deferred)
    judged.addCallback(verdicts.append)
    assert verdicts == [verdict]


def test_a_call_for_a_session_that_ends_is_no_failure() -> None:
    calls, reactor = made("publish")
    judged = calls.judge(PUBLISH, VISITOR)
    assert isinstance(judged, Deferred)
    failures: list[Failure] = []
    judged.addErrback(failures.append)
    judged.cancel()
    assert failures[0].check(CancelledError)
    assert not calls._calls
    assert calls.results["publish", "failed"] == 0
    assert not reactor.getDelayedCalls()
