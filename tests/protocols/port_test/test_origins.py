"""Pages that may read the answers of the port test."""

from __future__ import annotations

import pytest

from gateway.errors import ForeignOrigin
from gateway.protocols.http import Fields, RequestReader
from gateway.protocols.limits import Limits
from gateway.protocols.port_test.origins import sharing_fields


def fields(host: str, **more: str) -> Fields:
    reader = RequestReader(Limits())
    lines = [f"Host: {host}", *(f"{name.replace('_', '-')}: {text}" for name, text in more.items())]
    reader.receive("\r\n".join(("GET / HTTP/1.1", *lines, "", "")).encode())
    found = reader.next_head()
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://site.example", "site.example:8080"),
        ("https://Site.example:443", "site.example"),
        ("http://[2001:db8::1]:80", "[2001:db8::1]:443"),
        ("http://192.0.2.1", "192.0.2.1:8080"),
    ],
)
def test_pages_of_the_same_host_on_any_port_can_read_answers(origin: str, host: str) -> None:
    # From HTTP to HTTPS a browser calls it cross-site.
    found = sharing_fields(fields(host, origin=origin, sec_fetch_site="cross-site"))
    assert found == f"Access-Control-Allow-Origin: {origin}\r\nVary: Origin\r\n".encode()


@pytest.mark.parametrize(
    "origin",
    ["http://other.example", "null", "http://site.example.other.example", "ftp://site.example"],
)
def test_pages_of_other_hosts_cannot_read_answers(origin: str) -> None:
    assert sharing_fields(fields("site.example", origin=origin)) == b""
    with pytest.raises(ForeignOrigin):
        sharing_fields(fields("site.example", origin=origin, sec_fetch_site="cross-site"))


def test_requests_without_an_origin_are_answered_unless_another_site_has_caused_them() -> None:
    assert sharing_fields(fields("site.example")) == b""
    for site in ("none", "same-origin"):
        assert sharing_fields(fields("site.example", sec_fetch_site=site)) == b""
    with pytest.raises(ForeignOrigin):
        sharing_fields(fields("site.example", sec_fetch_site="cross-site"))


def test_a_link_on_another_site_leads_to_the_page() -> None:
    link = fields("site.example", sec_fetch_site="cross-site", sec_fetch_mode="navigate")
    assert sharing_fields(link) == b""
