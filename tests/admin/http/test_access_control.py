"""Access control of the admin server: host names, tokens, origins."""

from __future__ import annotations

from base64 import b64encode

import pytest

from gateway.admin.http.access_control import AccessControl
from gateway.admin.http.problems import ForeignOrigin, Unauthorized, WrongHost

TOKEN = b"0123456789abcdef"


def check(guard: AccessControl, method: str = "GET", scheme: str = "http", **fields: str) -> None:
    head = {"host": "localhost:9935", **{k.replace("_", "-"): v for k, v in fields.items()}}
    guard.check(method, scheme, head.get)


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:1", "127.0.0.1:9935", "127.8.9.1", "[::1]:9935", "named.example"],
)
def test_host_names_of_this_machine_and_configured_ones_are_accepted(host: str) -> None:
    check(AccessControl(hosts=["named.example"]), host=host)


@pytest.mark.parametrize(
    "host",
    [
        *("", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "192.0.2.1"),
        *(
            "evil.example:9935",
            "localhost:9935:1",
            "localhost@evil.example",
            "[::1",
            "[2001:db8::1]",
        ),
        *("localhost/", "local host", "0.0.0.0:9935", "2130706433"),
    ],
)
def test_a_foreign_host_name_is_refused_for_every_path(host: str) -> None:
    with pytest.raises(WrongHost):
        check(AccessControl(), host=host)
    check(AccessControl(any_host=True), host=host)


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer 0123456789abcdef",
        "bearer  0123456789abcdef ",
        "Basic " + b64encode(b"anybody:" + TOKEN).decode(),
        "Basic " + b64encode(b":" + TOKEN).decode(),
    ],
)
def test_a_request_with_the_token_is_accepted(authorization: str) -> None:
    check(AccessControl(TOKEN), authorization=authorization)


@pytest.mark.parametrize(
    "authorization",
    [
        *("", "Bearer", "Bearer ", "Bearer 0123456789abcde", "Bearer 0123456789abcdef0"),
        *("0123456789abcdef", "Digest 0123456789abcdef", "Bearer \udcff", "Basic !!!", "Basic "),
        "Basic " + b64encode(TOKEN).decode(),
        "Basic " + b64encode(TOKEN + b":").decode(),
    ],
)
def test_a_request_without_the_exact_token_is_refused(authorization: str) -> None:
    with pytest.raises(Unauthorized) as refused:
        check(AccessControl(TOKEN), authorization=authorization)
    assert refused.value.fields["WWW-Authenticate"].startswith("Bearer")
    assert "0123" not in str(refused.value)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize(
    "fields",
    [
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "cross-site", "origin": "http://localhost:9935"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:1"},
        {"origin": "https://localhost:9935"},
    ],
)
def test_a_change_requested_by_a_page_of_another_site_is_refused(
    method: str, fields: dict[str, str]
) -> None:
    with pytest.raises(ForeignOrigin):
        check(AccessControl(), method, **fields)
    basic = "Basic " + b64encode(b":" + TOKEN).decode()
    with pytest.raises(ForeignOrigin):
        # A browser sends these credentials with every request of a page.
        check(AccessControl(TOKEN), method, authorization=basic, **fields)
    check(AccessControl(TOKEN), method, authorization=f"Bearer {TOKEN.decode()}", **fields)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "none"},
        {"origin": "http://localhost:9935"},
        {"sec_fetch_site": "same-origin", "origin": "https://localhost:9935"},
    ],
)
def test_changes_requested_by_the_status_page_and_by_programs_are_accepted(
    fields: dict[str, str],
) -> None:
    check(AccessControl(), "DELETE", **fields)


def test_a_get_request_is_accepted_from_any_origin() -> None:
    check(AccessControl(), "GET", sec_fetch_site="cross-site", origin="http://evil.example")


def test_a_bearer_token_does_not_permit_another_origin_if_no_token_is_configured() -> None:
    with pytest.raises(ForeignOrigin):
        check(AccessControl(), "POST", authorization="Bearer x", origin="http://evil.example")
