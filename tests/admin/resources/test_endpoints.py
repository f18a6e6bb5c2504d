"""The responses of each path, over HTTP in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from time import thread_time

import pytest
from attrs import evolve
from twisted.internet.task import Clock
from twisted.logger import LogLevel

from gateway.admin.resources.endpoints import ROUTES
from gateway.errors import ConfigurationError, Draining
from gateway.telemetry.exposition.sources import UpstreamHealth
from gateway.telemetry.measurement.history import History
from tests.helpers.admin_server import AdminServer


def media_server(up: bool, due: bool) -> UpstreamHealth:
    return UpstreamHealth("media:1935", up, due, 1, [0] * 74)


def test_the_liveness_path_answers_200(server: AdminServer) -> None:
    answer = server.ask("GET", "/healthz")
    assert (answer.status, answer.body) == (200, b"ok\n")


def test_the_gateway_is_ready_while_an_upstream_is_up_and_it_does_not_drain(
    server: AdminServer,
) -> None:
    assert server.ask("GET", "/readyz").status == 200
    server.ask("POST", "/drain")
    drained = server.ask("GET", "/readyz")
    assert (drained.status, drained.body) == (503, b"draining\n")
    server.ask("DELETE", "/drain")
    server.figures.servers = [
        media_server(up=False, due=False),
        evolve(media_server(up=True, due=True), name="mirror:1935", named_only=True),
    ]
    assert server.ask("GET", "/readyz").body == b"no upstream is up\n"
    server.figures.servers = []
    assert server.ask("GET", "/readyz").status == 503


def test_the_gateway_is_ready_while_an_upstream_is_due_to_be_tried(
    server: AdminServer,
) -> None:
    server.figures.servers = [media_server(up=False, due=True)]
    assert server.ask("GET", "/readyz").status == 200
    (found,) = server.ask("GET", "/upstreams").json["upstreams"]
    assert (found["up"], found["due"]) == (False, True)


def test_a_drain_refuses_new_sessions_until_the_drain_ends(server: AdminServer) -> None:
    assert server.ask("GET", "/drain").json == {"draining": False}
    assert server.ask("POST", "/drain").json == {"draining": True}
    with pytest.raises(Draining):
        server.admission.enter("192.0.2.1")
    assert server.ask("DELETE", "/drain").json == {"draining": False}
    server.admission.enter("192.0.2.1")


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("media:1935", "media:1935"),
        ("media%3A1935", "media:1935"),
        ("rtmps%3A%2F%2Fmedia%3A443", "rtmps://media:443"),
    ],
)
def test_new_sessions_can_be_kept_from_a_server(
    server: AdminServer, written: str, name: str
) -> None:
    path = f"/upstreams/{written}/drain"
    answer = server.ask("POST", path)
    assert answer.status == 200
    assert answer.json == server.ask("GET", "/upstreams").json
    assert server.ask("DELETE", path).status == 200
    assert server.server_changes == [(name, "drained"), (name, "not drained")]


def test_a_server_can_be_set_down_and_up(server: AdminServer) -> None:
    for change in ("down", "up"):
        answer = server.ask("POST", f"/upstreams/media:1935/{change}")
        assert answer.status == 200
        assert answer.json == server.ask("GET", "/upstreams").json
    assert server.server_changes == [("media:1935", "down"), ("media:1935", "up")]
    assert server.ask("DELETE", "/upstreams/media:1935/down").status == 405
    assert server.ask("POST", "/upstreams/media:1935/down?a=b").status == 400
    assert len(server.server_changes) == 2


@pytest.mark.parametrize(
    "path",
    [
        "/upstreams/other:1935/drain",
        "/upstreams/other:1935/down",
        "/upstreams/other:1935/up",
        "/upstreams/a b/drain",
        "/upstreams/media:1935",
        "/upstreams//drain",
        "/upstreams/rtmps%3A%2F%2Fother/drain",
        "/upstreams/rtmps://media:443/drain",
    ],
)
def test_an_unknown_server_gets_404(server: AdminServer, path: str) -> None:
    assert server.ask("POST", path.replace(" ", "%20")).status == 404


def test_the_answer_to_a_reload_names_the_reloaded_files(server: AdminServer) -> None:
    assert server.ask("POST", "/reload").json == {"reloaded": ["certificates"]}


def test_a_failed_reload_answers_with_the_reason(server: AdminServer) -> None:
    server.reloads = ConfigurationError("gateway.toml: line 3: not TOML")
    answer = server.ask("POST", "/reload")
    assert answer.status == 422
    assert answer.json["detail"] == "gateway.toml: line 3: not TOML"


def test_the_metrics_are_in_prometheus_format(server: AdminServer) -> None:
    server.node.talk([server.node.open()], 3)
    plain = server.ask("GET", "/metrics")
    assert plain.fields["Content-Type"].startswith("text/plain; version=0.0.4")
    assert b"rtmpt_gateway_sessions_opened_total" in plain.body
    opened = server.ask("GET", "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert opened.fields["Content-Type"].startswith("application/openmetrics-text")
    assert opened.body.endswith(b"# EOF\n")


def test_the_metrics_of_single_sessions_have_a_separate_path(server: AdminServer) -> None:
    for _ in range(3):
        server.node.open()
    assert server.ask("GET", "/metrics/sessions").body.count(b"session_info{") == 3
    assert server.ask("GET", "/metrics/sessions?alias=n100-2").body.count(b"session_info{") == 1
    assert server.ask("GET", "/metrics/sessions?limit=1").status == 400
    for accept, form in (
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text"),
        ("application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.3", "text/plain"),
        ("application/openmetrics-text;version=1.0.0,*/*;q=0.1", "text/plain"),
    ):
        answer = server.ask("GET", "/metrics/sessions", Accept=accept)
        assert answer.fields["Content-Type"].startswith(form)
        assert answer.body.endswith(b"# EOF\n") == (form != "text/plain")


def test_the_list_of_sessions_can_be_filtered_sorted_and_limited(server: AdminServer) -> None:
    for number in range(5):
        server.node.open(protocol="rtmpts" if number else "rtmpt")
    found = server.ask("GET", "/sessions?protocol=rtmpts&sort=duration&order=asc&limit=2").json
    assert found["matching"] == 4
    assert [each["alias"] for each in found["sessions"]] == ["n100-5", "n100-4"]
    assert found["causes"] == {"unknown": 4}
    assert server.ask("GET", "/sessions?app=other").json["sessions"] == []
    assert server.ask("GET", "/sessions?address=192.0.2.1").json["matching"] == 5


def test_a_session_can_be_shown_after_its_end(server: AdminServer) -> None:
    tunnel = server.node.open()
    found = server.ask("GET", "/sessions/n100-1").json
    assert found["diagnosis"]["cause"] == "unknown"
    assert server.ask("DELETE", "/sessions/n100-1").status == 204
    assert tunnel.session.ended
    assert server.ask("GET", "/sessions/n100-1").json["reason"] == "ended_by_operator"
    assert server.ask("DELETE", "/sessions/n100-1").status == 404


def test_no_response_contains_a_session_id(server: AdminServer) -> None:
    server.node.open()
    for path in ("/sessions", "/sessions/n100-1", "/metrics/sessions", "/metrics"):
        assert b"secret" not in server.ask("GET", path).body


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/sessions/",
        "/sessions/none",
        "/sessions/a/b",
        "/sessions/%00",
        "//",
        "/metrics/",
        "/sessions/{alias}",
        "http://localhost/healthz",
        "/sessions/" + "x" * 500,
        "/sessions/%C3%BC",
    ],
)
def test_an_unknown_path_gets_404_with_an_empty_body(server: AdminServer, path: str) -> None:
    answer = server.ask("GET", path)
    assert (answer.status, answer.body) == (404, b"")


def filled(path: str) -> str:
    """``path`` with values for its variable parts."""
    return path.replace("{alias}", "n100-1").replace("{server}", "media:1935")


@pytest.mark.parametrize("path", ROUTES)
def test_a_wrong_method_gets_405_with_the_allowed_methods(server: AdminServer, path: str) -> None:
    answer = server.ask("PATCH", filled(path))
    assert answer.status == 405
    methods = set(answer.fields["Allow"].split(", ")) - {"HEAD"}
    assert methods == set(ROUTES[path])


@pytest.mark.parametrize("path", [path for path in ROUTES if path != "/events"])
def test_an_unknown_parameter_gets_400_with_a_problem_document(
    server: AdminServer, path: str
) -> None:
    server.node.open()
    method = "GET" if "GET" in ROUTES[path] else "POST"
    answer = server.ask(method, filled(path) + "?nobody=1")
    assert answer.status == 400
    assert answer.fields["Content-Type"] == "application/problem+json"
    assert answer.json["detail"].startswith('"nobody": unknown')


@pytest.mark.parametrize("path", [path for path in ROUTES if "GET" in ROUTES[path]])
def test_a_head_request_is_answered_like_get_without_the_body(
    server: AdminServer, path: str
) -> None:
    server.node.open()
    answer = server.ask("HEAD", filled(path))
    assert (answer.status, answer.body) == (200, b"")
    assert server.watching.watchers == 0


def test_the_list_of_upstreams_has_their_connect_times(server: AdminServer) -> None:
    (found,) = server.ask("GET", "/upstreams").json["upstreams"]
    assert (found["name"], found["up"], found["connections"], found["failures"]) == (
        *("media:1935", True),
        *(3, 2),
    )
    assert 0 < found["connect_p50_s"] == found["connect_p95_s"]


def test_the_list_of_mirrors_has_their_streams(server: AdminServer) -> None:
    assert server.ask("GET", "/mirrors").json == {
        "mirrors": [
            {
                "name": "platform",
                "publishing": 4,
                "waiting": 1,
                "failures": 2,
                "left_out_messages": 7,
                "queued_bytes": 1000,
                "streams": [
                    {
                        "stream": "live/cam",
                        "state": "waiting",
                        "state_s": 3.0,
                        "server": "media:1935",
                        "queued_bytes": 0,
                        "left_out_messages": 7,
                        "failures": 2,
                        "last_error": "the server does not read",
                        "next_try_s": 1.5,
                    }
                ],
            }
        ]
    }
    assert server.ask("POST", "/mirrors").status == 405


def test_the_log_level_can_be_changed(server: AdminServer) -> None:
    assert server.ask("GET", "/log-level").json == {"level": "info"}
    assert server.ask("PUT", "/log-level", b'{"level": "error"}').status == 200
    assert server.threshold is not None
    server.threshold({"log_level": LogLevel.warn})
    server.threshold({"log_level": LogLevel.critical})
    assert [event["log_level"] for event in server.logged] == [LogLevel.critical]
    assert server.ask("PUT", "/log-level", b'{"level": "loud"}').status == 400


def test_the_level_of_a_log_that_twistd_configures_cannot_be_changed(server: AdminServer) -> None:
    server.threshold = None
    assert server.ask("GET", "/log-level").status == 409
    assert server.ask("PUT", "/log-level", b'{"level": "info"}').status == 409


def test_every_response_forbids_caching_and_framing(server: AdminServer) -> None:
    for path in ("/", "/sessions", "/nothing", "/metrics?x=1"):
        fields = server.ask("GET", path).fields
        assert fields["X-Content-Type-Options"] == "nosniff"
        assert fields["Referrer-Policy"] == "no-referrer"
        assert fields["Cache-Control"] == "no-store"
        assert "default-src 'none'" in fields["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in fields["Content-Security-Policy"]
        assert "Access-Control-Allow-Origin" not in fields


def test_a_query_lists_the_matching_sessions_of_thousands(server: AdminServer) -> None:
    for _ in range(2000):
        server.node.open()
    found = server.ask("GET", "/sessions?limit=1000")
    assert json.loads(found.body)["matching"] == 2000
    assert len(found.json["sessions"]) == 1000


@pytest.fixture(scope="module")
def busy_server() -> Iterator[AdminServer]:
    """A server with 5,000 active sessions, whose time is the real processor time."""
    server = AdminServer(spends=thread_time)
    server.node.talk([server.node.open() for _ in range(5000)], 5)
    yield server
    server.site.stopFactory()


def steps_of(server: AdminServer, target: str, end: bytes) -> list[float]:
    """The processor time of each step of a response, in seconds."""
    protocol, transport = server.connect()
    request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    steps = [_timed(lambda: protocol.dataReceived(request))]
    while not transport.value().endswith(end):
        steps.append(_timed(lambda: take_turn(server.reactor)))
    transport.abortConnection()
    return steps


def take_turn(clock: Clock) -> None:
    """Run the first due call. ``advance`` would also run the calls that it schedules."""
    call = clock.calls.pop(0)
    assert call.getTime() <= clock.seconds()
    call.called = 1
    call.func(*call.args, **call.kw)


def _timed(step: Callable[[], object]) -> float:
    began = thread_time()
    step()
    return thread_time() - began


@pytest.mark.parametrize(
    ("target", "end"),
    [
        ("/metrics", b"0\r\n\r\n"),
        ("/metrics/sessions", b"0\r\n\r\n"),
        ("/sessions?limit=100&sort=delay", b"0\r\n\r\n"),
        ("/sessions?limit=1000&sort=delay", b"0\r\n\r\n"),
        ("/events?limit=100", b"\n\r\n1\r\n\n\r\n"),
    ],
)
def test_no_step_of_an_answer_about_5000_sessions_takes_long(
    busy_server: AdminServer, target: str, end: bytes
) -> None:
    """All other connections wait for one step. The fastest run counts, as other load varies."""
    longest = []
    for _ in range(5):
        steps = steps_of(busy_server, target, end)
        assert len(steps) > 4
        longest.append(max(steps))
        if longest[-1] < 0.005:
            break
    assert min(longest) < 0.005


def test_the_history_of_a_session_is_available_until_the_session_ends(server: AdminServer) -> None:
    tunnel = server.node.open()
    assert server.ask("GET", "/sessions/n100-1/history").json["samples"] == []
    history = tunnel.figures.history = History(0, 0, 0.0, server.node.now)
    history.sample(0.25, 1.0, 0.02, 0, 125_000, server.node.now + 10)
    server.node.now += 14
    found = server.ask("GET", "/sessions/n100-1/history").json
    assert (found["every_s"], found["age_s"]) == (10, 4)
    (sample,) = found["samples"]
    assert sample == pytest.approx(
        {
            "downstream_wait_p95_s": 0.25,
            "poll_gap_p95_s": 1.0,
            "bytes_down_per_s": 12_500,
            "bytes_up_per_s": 0,
            "round_trip_s": 0.02,
        },
        rel=0.001,
    )
    server.ask("DELETE", "/sessions/n100-1")
    for path in ("/sessions/n100-1/history", "/sessions/none/history", "/sessions/n100-1/other"):
        assert server.ask("GET", path).status == 404
