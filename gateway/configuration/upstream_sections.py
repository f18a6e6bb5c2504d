"""The sections of media servers: upstreams, mirrors and routes."""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import ge, le

from gateway.addresses import ListenAddress, Network, ServerAddress
from gateway.configuration.values import (
    ANY_NAME,
    RTMPE,
    AbsolutePath,
    Application,
    Choice,
    HashBy,
    HealthCheck,
    HostPattern,
    IPAddress,
    Pattern,
    ProxyProtocol,
    ServerName,
    Template,
    UpstreamName,
    UpstreamReference,
    not_empty,
)


@frozen
class UpstreamServer:
    """An RTMP server of an ``[[upstream]]``: a table, or its address alone. ``max_sessions``: 0 for any."""

    address: ServerAddress = field(metadata={"may_stand_alone": True})
    weight: int = field(default=1, validator=[ge(1), le(1000)])
    backup: bool = False
    max_sessions: int = field(default=0, validator=ge(0))

    def __str__(self) -> str:
        return str(self.address)


@frozen
class Upstream:
    """``[[upstream]]``: RTMP servers. Each can take any session. Those of later upstreams are used while
    none of earlier ones accepts. An upstream without a name is called by its number.
    """

    servers: tuple[UpstreamServer, ...] = field(validator=not_empty)
    name: UpstreamName | None = None
    choose: Choice = "first"
    hash_by: HashBy = "application"
    balance_factor: float = field(default=0.0, validator=[ge(0.0), le(100.0)])
    slow_start_s: float = field(default=0.0, validator=[ge(0.0), le(3600.0)])
    queue: int = field(default=100, validator=[ge(0), le(1000)])
    queue_s: float = field(default=2.0, validator=[ge(0.1), le(60.0)])
    proxy_protocol: ProxyProtocol = "off"
    check: HealthCheck = "auto"
    check_application: Application | None = None
    check_s: float = field(default=5.0, validator=[ge(1.0), le(3600.0)])
    rise: int = field(default=2, validator=ge(1))
    fall: int = field(default=3, validator=ge(1))
    rtmpe: RTMPE = "opaque"
    source_address: IPAddress | None = None
    tls_authorities: AbsolutePath | None = None
    tls_certificate: AbsolutePath | None = None
    tls_verify: bool = True
    tls_server_name: ServerName | None = None

    def decrypts(self, server: UpstreamServer) -> bool:
        """Whether the gateway decrypts the RTMPE of clients for this server of the upstream."""
        return self.rtmpe == "terminate" or server.address.is_rtmpe

    @property
    def hashes_stream(self) -> bool:
        """Whether its servers are chosen by the stream."""
        return self.choose == "hash" and self.hash_by == "stream"


@frozen
class Mirror:
    """``[[mirror]]``: publishes streams of clients to a further upstream as well."""

    upstream: UpstreamName
    application: Pattern = ANY_NAME
    stream: Pattern = ANY_NAME
    to_application: Application | None = None
    stream_key_file: AbsolutePath | None = None


@frozen
class Rewriting:
    """``[route.rewrite]``: templates for properties of the connect command; None leaves one as it is."""

    tc_url: Template | None = None
    app: Template | None = None
    swf_url: Template | None = None
    page_url: Template | None = None


@frozen
class Route:
    """``[[route]]``: conditions on clients, and the upstreams of the clients that match all of them.

    A condition without values matches all clients. ``upstreams`` are names, or numbers of those without.
    """

    upstreams: tuple[UpstreamReference, ...] = field(
        validator=not_empty, metadata={"key": "upstream", "or_one": True}
    )
    listeners: tuple[ListenAddress, ...] = field(
        default=(), metadata={"key": "listener", "or_one": True}
    )
    hosts: tuple[HostPattern, ...] = field(default=(), metadata={"key": "host", "or_one": True})
    server_names: tuple[HostPattern, ...] = field(
        default=(), metadata={"key": "sni", "or_one": True}
    )
    clients: tuple[Network, ...] = field(default=(), metadata={"key": "client", "or_one": True})
    applications: tuple[Pattern, ...] = field(
        default=(), metadata={"key": "application", "or_one": True}
    )
    streams: tuple[Pattern, ...] = field(default=(), metadata={"key": "stream", "or_one": True})
    rewriting: Rewriting = field(default=Rewriting(), metadata={"key": "rewrite"})

    @property
    def matches_all(self) -> bool:
        """Whether it has no condition."""
        conditions = (self.listeners, self.hosts, self.server_names, self.clients)
        return not any((*conditions, self.applications, self.streams))

    @property
    def reads_connect(self) -> bool:
        """Whether the client's connect command is read before a server is selected."""
        return bool(self.applications or self.streams) or self.rewriting != Rewriting()
