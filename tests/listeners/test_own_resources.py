"""The gateway's own HTTP resources: documents, ident, preflights, and the fields for browsers."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.configuration import loading
from gateway.protocols.fields import items_of
from gateway.workers.own_resources import cookie_line, heads_of, own_resources
from tests.helpers.http_conversation import Gateway, Wire

ORIGIN = b"https://a.example"
ALL = {
    "cross_domain": {"domains": ["*.example.org"]},
    "node": {"id": "01", "public_address": "gateway-1.example.org"},
    "cors": {"origins": [ORIGIN.decode()]},
}


def wire(tables: dict[str, Any], website: Any = None, secure: bool = False) -> Wire:
    """A connection to a gateway with this configuration."""
    document = {"listener": [{"address": "127.0.0.1:80"}], **tables}
    configuration = loading.from_document("test", document)
    gateway = Gateway()
    gateway.service.website = website
    gateway.service.own = own_resources(configuration)
    gateway.service.heads_of = heads_of(configuration)
    gateway.service.cookie_line = cookie_line(configuration)
    accepted = gateway.accept()
    accepted.protocol._secure = secure
    return accepted


def ask(
    wire: Wire, method: bytes, target: bytes, *lines: bytes
) -> tuple[int, dict[bytes, bytes], bytes]:
    """The status, the fields and the body of the response to one request."""
    head = b"\r\n".join([b"%b %b HTTP/1.1" % (method, target), b"Host: a", *lines])
    wire.arrive(head + b"\r\n\r\n")
    sent, wire.writes = b"".join(wire.writes), []
    head, _, body = sent.partition(b"\r\n\r\n")
    line, _, block = head.partition(b"\r\n")
    items = items_of(block + b"\r\n\r\n")
    assert len(dict(items)) == len(items)
    return int(line.split()[1]), dict(items), body


class Website:
    """Notes what is forwarded to it."""

    def __init__(self) -> None:
        self.targets: list[bytes] = []

    def forward(self, client: Any, reader: Any, transport: Any, request: Any) -> Website:
        self.targets.append(request.target)
        return self

    def start(self) -> None:
        pass


# --- Documents ---


@pytest.mark.parametrize(
    ("target", "content_type", "root"),
    [
        (b"/crossdomain.xml", b"text/x-cross-domain-policy", b"<cross-domain-policy>"),
        (b"/clientaccesspolicy.xml", b"text/xml", b"<access-policy>"),
        (b"http://a/crossdomain.xml?v=1", b"text/x-cross-domain-policy", b"<cross-domain-policy>"),
    ],
)
def test_a_policy_file_has_its_type_and_may_be_cached(
    target: bytes, content_type: bytes, root: bytes
) -> None:
    connection = wire(ALL)
    status, fields, body = ask(connection, b"GET", target)
    assert status == 200
    assert root in body
    assert fields[b"content-type"] == content_type
    assert fields[b"content-length"] == b"%d" % len(body)
    assert fields[b"cache-control"] == b"max-age=3600"
    assert ask(connection, b"HEAD", target) == (200, fields, b"")


def test_a_version_that_the_client_has_is_not_sent_again() -> None:
    connection = wire(ALL)
    etag = ask(connection, b"GET", b"/crossdomain.xml")[1][b"etag"]
    for known in (etag, b"W/" + etag, b'"other", ' + etag, b"*"):
        status, fields, body = ask(
            connection, b"GET", b"/crossdomain.xml", b"If-None-Match: " + known
        )
        assert (status, body) == (304, b"")
        assert fields == {b"etag": etag, b"cache-control": b"max-age=3600"}
    assert ask(connection, b"GET", b"/crossdomain.xml", b'If-None-Match: "other"')[0] == 200
    assert ask(connection, b"GET", b"/clientaccesspolicy.xml")[1][b"etag"] != etag


def test_other_methods_are_refused_with_those_that_are_allowed() -> None:
    status, fields, body = ask(wire(ALL), b"DELETE", b"/crossdomain.xml")
    assert (status, fields[b"allow"], body) == (405, b"GET, HEAD", b"")


@pytest.mark.parametrize("target", [b"/crossdomain.xml", b"/clientaccesspolicy.xml", b"/fcs/ident"])
def test_what_is_not_configured_is_the_websites(target: bytes) -> None:
    assert ask(wire({}), b"GET", target)[0] == 404
    website = Website()
    wire({}, website).arrive(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % target)
    assert website.targets == [target]


def test_what_is_configured_takes_precedence_over_the_website() -> None:
    website = Website()
    connection = wire(ALL, website)
    assert ask(connection, b"GET", b"/crossdomain.xml")[0] == 200
    assert website.targets == []
    connection.arrive(b"GET /index.html HTTP/1.1\r\nHost: a\r\n\r\n")
    assert website.targets == [b"/index.html"]


def test_a_document_behind_a_pending_answer_waits_for_it() -> None:
    connection = wire(ALL, Website())
    opened = ask(connection, b"POST", b"/open/1")[2].strip()
    connection.arrive(b"POST /idle/%b/0 HTTP/1.1\r\nHost: a\r\n\r\n" % opened)
    assert connection.writes == []
    connection.arrive(b"GET /crossdomain.xml HTTP/1.1\r\nHost: a\r\n\r\n")
    assert [each[:15] for each in connection.writes] == [b"HTTP/1.1 200 OK"] * 2
    assert connection.writes[0].endswith(b"\r\n\r\n\x01")
    assert connection.writes[1].endswith(b"</cross-domain-policy>\n")


# --- Ident ---


def test_ident_names_the_node_for_players_and_balancers() -> None:
    connection = wire(ALL)
    for method in (b"GET", b"POST"):
        status, fields, body = ask(connection, method, b"/fcs/ident2")
        assert (status, fields[b"content-type"], body) == (
            200,
            b"text/plain",
            b"gateway-1.example.org",
        )
        assert fields[b"cache-control"] == b"no-store"
        for target in (b"/fcs/ident", b"/fcs/ident/"):
            status, fields, body = ask(connection, method, target)
            assert (status, body) == (200, b"<fcs><ip>gateway-1.example.org</ip></fcs>")
            assert fields[b"content-type"] == b"text/xml"
    assert ask(connection, b"POST", b"/open/1")[0] == 200


def test_without_a_public_address_ident2_is_answered_with_404() -> None:
    assert ask(wire({}), b"POST", b"/fcs/ident2")[::2] == (404, b"")


# --- Cookie ---


@pytest.mark.parametrize(
    ("secure", "attributes"), [(False, b""), (True, b"; Secure; SameSite=None")]
)
def test_the_answer_to_an_open_has_a_cookie_with_the_node_and_nothing_of_the_session(
    secure: bool, attributes: bytes
) -> None:
    connection = wire({"node": {"id": "01"}, "tunnel": {"cookie": "NODE"}}, secure=secure)
    status, fields, session = ask(connection, b"POST", b"/open/1")
    assert status == 200
    assert fields[b"set-cookie"] == b"NODE=01; Path=/; HttpOnly" + attributes
    assert session.strip() not in fields[b"set-cookie"]
    close = b"/close/%b/0" % session.strip()
    assert b"set-cookie" not in ask(connection, b"POST", close)[1]


def test_no_cookie_is_set_unless_it_is_configured() -> None:
    assert b"set-cookie" not in ask(wire(ALL), b"POST", b"/open/1")[1]


# --- Browsers ---


def test_all_answers_to_commands_of_an_allowed_origin_can_be_read_by_its_scripts() -> None:
    connection = wire(ALL)
    from_page = b"Origin: " + ORIGIN
    session = ask(connection, b"POST", b"/open/1", from_page)[2].strip()
    for target, status in (
        (b"/open/1", 200),
        (b"/send/%b/0" % session, 200),
        (b"/close/%b/1" % session, 200),
        (b"/idle/unknown/2", 404),
        (b"/fcs/ident2", 200),
    ):
        answer = ask(connection, b"POST", target, from_page)
        assert answer[0] == status
        assert answer[1][b"access-control-allow-origin"] == ORIGIN


def test_a_refusal_before_the_body_can_be_read_by_scripts_too() -> None:
    connection = wire(ALL)
    lines = (b"Origin: " + ORIGIN, b"Content-Length: 5000")
    status, fields, _ = ask(connection, b"POST", b"/send/unknown/0", *lines)
    assert (status, fields[b"connection"]) == (404, b"close")
    assert fields[b"access-control-allow-origin"] == ORIGIN


@pytest.mark.parametrize("line", [b"Accept: */*", b"Origin: https://b.example"])
def test_answers_to_others_have_no_further_fields(line: bytes) -> None:
    plain = ask(wire({}), b"POST", b"/open/1", line)
    assert ask(wire(ALL), b"POST", b"/open/1", line)[1] == plain[1]


@pytest.mark.parametrize("target", [b"/open/1", b"/send/abc/1", b"/idle/abc/2", b"/close/abc"])
def test_a_preflight_of_a_command_is_answered_without_content(target: bytes) -> None:
    connection = wire(ALL, Website())
    status, fields, body = ask(connection, b"OPTIONS", target, b"Origin: " + ORIGIN)
    assert (status, body) == (204, b"")
    assert fields[b"access-control-allow-origin"] == ORIGIN
    assert b"content-length" not in fields
    assert ask(connection, b"POST", b"/open/1")[0] == 200


def test_a_preflight_of_another_origin_is_refused() -> None:
    answer = ask(wire(ALL), b"OPTIONS", b"/open/1", b"Origin: https://b.example")
    assert answer == (403, {b"vary": b"Origin", b"content-length": b"0"}, b"")


def test_preflights_of_other_paths_are_the_websites() -> None:
    website = Website()
    wire(ALL, website).arrive(b"OPTIONS /api HTTP/1.1\r\nHost: a\r\nOrigin: %b\r\n\r\n" % ORIGIN)
    assert website.targets == [b"/api"]
    website = Website()
    wire({}, website).arrive(b"OPTIONS /open/1 HTTP/1.1\r\nHost: a\r\nOrigin: %b\r\n\r\n" % ORIGIN)
    assert website.targets == [b"/open/1"]
