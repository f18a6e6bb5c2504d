"""Policy files of Flash Player and Silverlight, read by another XML parser."""

from __future__ import annotations

from xml.dom.minidom import parseString

import pytest

from gateway.protocols.flash_policy import (
    Policy,
    check,
    client_access,
    cross_domain,
    of_sockets,
)

POLICY = Policy(("*.example.org", "www.example.net"), (80, 1935))
HOSTILE = '"/><allow-access-from domain="*'


def attributes(document: bytes, tag: str) -> list[dict[str, str]]:
    """The attributes of the elements with this tag, in their order."""
    return [
        dict(each.attributes.items()) for each in parseString(document).getElementsByTagName(tag)
    ]


def test_crossdomain_allows_the_domains_and_the_field_of_tunnel_requests() -> None:
    document = cross_domain(POLICY)
    check(document, "cross-domain-policy")
    domains = [{"domain": domain, "secure": "true"} for domain in POLICY.domains]
    assert attributes(document, "allow-access-from") == domains
    assert attributes(document, "allow-http-request-headers-from") == [
        {**each, "headers": "Content-Type"} for each in domains
    ]


def test_no_other_policy_file_of_the_server_is_permitted() -> None:
    for document in (cross_domain(POLICY), of_sockets(POLICY)):
        permitted = [{"permitted-cross-domain-policies": "master-only"}]
        assert attributes(document, "site-control") == permitted


def test_the_policy_of_sockets_names_the_ports() -> None:
    assert attributes(of_sockets(POLICY), "allow-access-from") == [
        {"domain": domain, "secure": "true", "to-ports": "80,1935"} for domain in POLICY.domains
    ]


@pytest.mark.parametrize(
    ("is_secure", "uris"), [(True, ["https://*"]), (False, ["http://*", "https://*"])]
)
def test_silverlight_is_allowed_by_the_schemes_of_its_pages(
    is_secure: bool, uris: list[str]
) -> None:
    document = client_access(Policy(("*",), (80,), is_secure))
    check(document, "access-policy")
    assert attributes(document, "domain") == [{"uri": uri} for uri in uris]
    assert attributes(document, "resource") == [{"path": "/", "include-subpaths": "true"}]
    assert attributes(document, "allow-from") == [{"http-request-headers": "Content-Type"}]


def test_secure_is_written_if_it_is_off() -> None:
    document = cross_domain(Policy(("*",), (80,), is_secure=False))
    assert attributes(document, "allow-access-from") == [{"domain": "*", "secure": "false"}]


@pytest.mark.parametrize("write", [cross_domain, of_sockets, client_access])
def test_markup_in_a_domain_is_escaped(write) -> None:
    document = write(Policy((HOSTILE,), (80,)))
    assert b'domain="*' not in document
    tag, name = ("domain", "uri") if write is client_access else ("allow-access-from", "domain")
    assert attributes(document, tag)[0][name].endswith(HOSTILE)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "not XML"),
        (b"<cross-domain-policy>", "not XML"),
        (b"\xff\xfe", "not XML"),
        (b"<html/>", "its root element is <html>, not <cross-domain-policy>"),
    ],
)
def test_a_file_that_is_no_policy_is_refused(content: bytes, cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        check(content, "cross-domain-policy")
