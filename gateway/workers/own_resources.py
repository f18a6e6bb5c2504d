"""The gateway's own HTTP resources and the fields for browsers, as they are configured."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final
from xml.etree.ElementTree import Element, SubElement, tostring

from gateway.configuration.sections import Config, CrossDomain
from gateway.errors import ConfigurationError
from gateway.listeners.http_service import no_cookie
from gateway.listeners.own_resources import (
    CLIENT_ACCESS,
    CROSS_DOMAIN,
    IDENT,
    IDENT2,
    Document,
    OwnResources,
    Preflight,
    Resource,
)
from gateway.listeners.response_heads import CrossOriginHeads, ResponseHeads, response_heads
from gateway.protocols import flash_policy
from gateway.protocols.cross_origin import CrossOrigin
from gateway.protocols.flash_policy import SOCKET_END, Policy
from gateway.protocols.http import Fields
from gateway.regular_files import read_regular_file

# Flash Player ignores a longer policy of sockets, and no policy needs as much.
_MOST_BYTES: Final = 64 * 1024
# Flash Player accepts it in every setting of site-control.
_CROSS_DOMAIN_TYPE: Final = b"text/x-cross-domain-policy"
_XML: Final = b"text/xml"
_POST: Final = frozenset((b"POST",))


def own_resources(configuration: Config) -> OwnResources:
    """The resources. Raises ConfigurationError for a file that cannot be used."""
    by_path: dict[bytes, Resource] = {}
    socket_policy = b""
    policies = configuration.cross_domain
    if policies is not None:
        cross_domain, socket_policy = _cross_domain(configuration, policies)
        client_access = _client_access(configuration, policies)
        if cross_domain:
            by_path[CROSS_DOMAIN] = Document(_CROSS_DOMAIN_TYPE, cross_domain)
        if client_access:
            by_path[CLIENT_ACCESS] = Document(_XML, client_access)
    if configuration.node.public_address is not None:
        by_path.update(_idents(configuration.node.public_address))
    cross_origin = _cross_origin(configuration)
    return OwnResources(
        by_path, None if cross_origin is None else Preflight(cross_origin), socket_policy
    )


def heads_of(configuration: Config) -> Callable[[Fields], ResponseHeads]:
    """The heads of the answers to commands, with the fields that allow other origins."""
    cross_origin = _cross_origin(configuration)
    return response_heads if cross_origin is None else CrossOriginHeads(cross_origin).of


def cookie_line(configuration: Config) -> Callable[[bool], bytes]:
    """The field line of a cookie that names the node; the argument: whether the connection is TLS."""
    name = configuration.tunnel.cookie
    if name is None:
        return no_cookie
    plain = f"Set-Cookie: {name}={configuration.node.id}; Path=/; HttpOnly"
    # Browsers send it from pages of other sites only with SameSite=None, which requires Secure.
    lines = (f"{plain}\r\n".encode(), f"{plain}; Secure; SameSite=None\r\n".encode())
    return lines.__getitem__


def _cross_origin(configuration: Config) -> CrossOrigin | None:
    if configuration.cors is None:
        return None
    return CrossOrigin(configuration.cors.origins, configuration.tunnel.cookie is not None)


def _cross_domain(configuration: Config, policies: CrossDomain) -> tuple[bytes, bytes]:
    """The content of /crossdomain.xml, and the answer to requests for the policy of sockets."""
    if policies.crossdomain_file is not None:
        content = _read(configuration, "crossdomain_file", flash_policy.CROSS_DOMAIN_ROOT)
        return content, content + SOCKET_END
    if not policies.domains:
        return b"", b""
    policy = _policy(policies)
    return flash_policy.cross_domain(policy), flash_policy.of_sockets(policy) + SOCKET_END


def _client_access(configuration: Config, policies: CrossDomain) -> bytes:
    if policies.clientaccesspolicy_file is not None:
        return _read(configuration, "clientaccesspolicy_file", flash_policy.CLIENT_ACCESS_ROOT)
    return flash_policy.client_access(_policy(policies)) if policies.domains else b""


def _policy(policies: CrossDomain) -> Policy:
    return Policy(policies.domains, policies.ports, policies.secure)


def _read(configuration: Config, key: str, root: str) -> bytes:
    path = getattr(configuration.cross_domain, key)
    with configuration.source.at("cross_domain", key):
        try:
            content = read_regular_file(path, _MOST_BYTES + 1)
        except OSError as error:
            raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
        if len(content) > _MOST_BYTES:
            raise ConfigurationError(f"{path}: larger than {_MOST_BYTES} bytes; use a shorter one")
        try:
            flash_policy.check(content, root)
        except ValueError as error:
            raise ConfigurationError(f"{path}: {error}") from None
    return content


def _idents(public_address: str) -> dict[bytes, Resource]:
    root = Element("fcs")
    SubElement(root, "ip").text = public_address
    # The answers are for the balancer's clients at this moment.
    make = partial(Document, cache_control=b"no-store", methods=_POST)
    ident = make(_XML, tostring(root))
    return {
        IDENT: ident,
        # As players of content delivery networks write it.
        IDENT + b"/": ident,
        IDENT2: make(b"text/plain", public_address.encode("ascii")),
    }
