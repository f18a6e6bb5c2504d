"""Policy files, by which Flash Player, AIR and Silverlight learn whose programs may use this server.

    /crossdomain.xml         Flash Player and AIR, by HTTP
    <policy-file-request/>   the same, asked for on a TCP port; this policy also names ports
    /clientaccesspolicy.xml  Silverlight, by HTTP

Sources: Adobe's "Cross Domain Policy File Specification" and Microsoft's "Network Security Access
Restrictions in Silverlight".
"""

from __future__ import annotations

from typing import Final
from xml.etree.ElementTree import Element, ParseError, SubElement, fromstring, tostring

from attrs import frozen

# What Flash Player sends on a TCP port, and what ends the answer.
SOCKET_REQUEST: Final = b"<policy-file-request/>\0"
SOCKET_END: Final = b"\0"
# Programs must be allowed to send it (PROTOCOL.md, The exchange).
_REQUEST_FIELD: Final = "Content-Type"
CROSS_DOMAIN_ROOT: Final = "cross-domain-policy"
CLIENT_ACCESS_ROOT: Final = "access-policy"


@frozen
class Policy:
    """``domains``: those of the pages whose programs are allowed; ``*`` for all, ``*.`` for their ends.

    ``ports``: the TCP ports for sockets. ``is_secure``: whether a program must come by HTTPS to use HTTPS.
    """

    domains: tuple[str, ...]
    ports: tuple[int, ...]
    is_secure: bool = True


def cross_domain(policy: Policy) -> bytes:
    """The content of ``/crossdomain.xml``."""
    root = _cross_domain_root()
    for domain in policy.domains:
        _allow(root, policy, domain)
    for domain in policy.domains:
        SubElement(
            root,
            "allow-http-request-headers-from",
            {"domain": domain, "headers": _REQUEST_FIELD, "secure": _flag(policy.is_secure)},
        )
    return _written(root)


def of_sockets(policy: Policy) -> bytes:
    """The policy for sockets, without the byte that ends it."""
    root = _cross_domain_root()
    for domain in policy.domains:
        _allow(root, policy, domain).set("to-ports", ",".join(map(str, policy.ports)))
    return _written(root)


def client_access(policy: Policy) -> bytes:
    """The content of ``/clientaccesspolicy.xml``. A secure policy names pages of HTTPS alone."""
    root = Element(CLIENT_ACCESS_ROOT)
    allowed = SubElement(SubElement(root, "cross-domain-access"), "policy")
    of_pages = SubElement(allowed, "allow-from", {"http-request-headers": _REQUEST_FIELD})
    for domain in policy.domains:
        for scheme in ("https",) if policy.is_secure else ("http", "https"):
            SubElement(of_pages, "domain", {"uri": f"{scheme}://{domain}"})
    granted = SubElement(allowed, "grant-to")
    SubElement(granted, "resource", {"path": "/", "include-subpaths": "true"})
    return _written(root)


def check(content: bytes, root: str) -> None:
    """Raises ValueError, with the cause, if ``content`` is no XML document with this root element."""
    try:
        found = fromstring(content).tag
    except (ParseError, ValueError) as error:
        raise ValueError(f"not XML: {error}") from None
    if found != root:
        raise ValueError(f"its root element is <{found}>, not <{root}>")


def _cross_domain_root() -> Element:
    root = Element(CROSS_DOMAIN_ROOT)
    # Other files of this server, such as uploads on a website, cannot allow more.
    SubElement(root, "site-control", {"permitted-cross-domain-policies": "master-only"})
    return root


def _allow(root: Element, policy: Policy, domain: str) -> Element:
    attributes = {"domain": domain, "secure": _flag(policy.is_secure)}
    return SubElement(root, "allow-access-from", attributes)


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _written(root: Element) -> bytes:
    return b'<?xml version="1.0"?>\n' + tostring(root) + b"\n"
