"""The sections of the configuration: one frozen class for each table, one attribute for each key.

etc/rtmpt-gateway.toml explains the keys. An attribute has its key's name, unless its metadata has another
under ``key``. Types and validators check a key by itself; checks.py compares keys with each other.
"""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import ge, le

from gateway.addresses import ListenAddress, Network, ServerAddress, TcpAddress, UnixAddress
from gateway.configuration.problems import Source
from gateway.configuration.values import (
    ANY_NAME,
    DEFAULT_CONGESTION_CONTROL,
    DEFAULT_NODE,
    DEFAULT_SOCKET_PORTS,
    LATENCIES,
    ONE_WORKER_A_CORE,
    RTMPE,
    AbsolutePath,
    AccessAction,
    CallbackFailure,
    CallbackMethod,
    Choice,
    CongestionControl,
    CookieName,
    DatagramAddress,
    DatagramProxyProtocol,
    DatagramServer,
    DomainPattern,
    HashBy,
    HealthCheck,
    Host,
    HostPattern,
    HttpUrl,
    IPAddress,
    Latency,
    LogFormat,
    LogLevel,
    MirrorApplication,
    NodeAddress,
    NodeId,
    Pattern,
    PeerAddress,
    Port,
    ProxyProtocol,
    PublicPort,
    SecondPublisher,
    ServerName,
    StreamAction,
    Template,
    UpstreamName,
    UpstreamReference,
    WebOrigin,
    WebServerAddress,
    WorkerCount,
)
from gateway.protocols.limits import Limits, StreamedAnswers

DEFAULT_ADMIN = TcpAddress("127.0.0.1", 9935)


def _not_empty(_: object, __: object, values: tuple[object, ...]) -> None:
    if not values:
        raise ValueError("empty; list at least one")


@frozen
class Listener:
    """``[[listener]]``: an address that accepts clients, and the clients it accepts."""

    address: ListenAddress
    tls: bool = False
    proxy_protocol: bool = False
    trusted: tuple[Network, ...] = ()
    allow: tuple[Network, ...] = ()
    deny: tuple[Network, ...] = ()
    congestion_control: CongestionControl = DEFAULT_CONGESTION_CONTROL


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

    servers: tuple[UpstreamServer, ...] = field(validator=_not_empty)
    name: UpstreamName | None = None
    choose: Choice = "first"
    hash_by: HashBy = "application"
    balance_factor: float = field(default=0.0, validator=[ge(0.0), le(100.0)])
    slow_start_s: float = field(default=0.0, validator=[ge(0.0), le(3600.0)])
    queue: int = field(default=100, validator=[ge(0), le(1000)])
    queue_s: float = field(default=2.0, validator=[ge(0.1), le(60.0)])
    proxy_protocol: ProxyProtocol = "off"
    check: HealthCheck = "auto"
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
        """Whether the gateway decrypts the RTMPE of clients for this server of its own."""
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
    to_application: MirrorApplication | None = None
    stream_key_file: AbsolutePath | None = None


@frozen
class AccessRule:
    """``[[access]]``: who may connect, publish and play. The first rule that matches decides."""

    allow: AccessAction | None = None
    deny: AccessAction | None = None
    clients: tuple[Network, ...] = ()
    application: Pattern = ANY_NAME
    stream: Pattern = ANY_NAME


@frozen
class StreamKeys:
    """``[stream_keys]``: signed keys in the names of streams."""

    secrets_file: AbsolutePath
    required_for: tuple[StreamAction, ...] = field(default=("publish",), validator=_not_empty)


@frozen
class Callback:
    """``[callback]``: HTTP requests that decide on clients, and that report ended streams."""

    on_connect: HttpUrl | None = None
    on_publish: HttpUrl | None = None
    on_play: HttpUrl | None = None
    on_done: HttpUrl | None = None
    method: CallbackMethod = "post"
    timeout_s: float = field(default=2.0, validator=[ge(0.1), le(10.0)])
    on_failure: CallbackFailure = "deny"


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
        validator=_not_empty, metadata={"key": "upstream", "or_one": True}
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


@frozen
class Udp:
    """``[[udp]]``: an address whose datagrams (RTMFP) are relayed to a server, and the limits on that."""

    address: DatagramAddress
    server: DatagramServer
    proxy_protocol: DatagramProxyProtocol = "off"
    allow: tuple[Network, ...] = ()
    deny: tuple[Network, ...] = ()
    bypasses_access: bool = False
    idle_s: float = field(default=120.0, validator=[ge(1.0), le(3600.0)])
    sessions: int = field(default=1000, validator=[ge(1), le(10_000)])
    sessions_per_address: int = field(default=100, validator=ge(1))
    datagram_bytes: int = field(default=1500, validator=[ge(512), le(65_507)])
    queued_bytes: int = field(default=131_072, validator=[ge(4096), le(16_777_216)])


@frozen
class Certificate:
    """``[[tls.certificate]]``: a certificate chain and its key in separate PEM files."""

    chain: AbsolutePath
    key: AbsolutePath


@frozen
class Tls:
    """``[tls]``: the certificates of the listeners, selected by server name (SNI).

    ``certificates`` are PEM files with chain and key; ``pairs`` have separate files. The first of
    ``certificates``, or of ``pairs`` if there are none, is the default.
    """

    certificates: tuple[AbsolutePath, ...] = ()
    pairs: tuple[Certificate, ...] = field(default=(), metadata={"key": "certificate"})


@frozen
class Website:
    """``[website]``: the web server for HTTP requests that are not tunnel commands."""

    server: WebServerAddress


@frozen
class PortTest:
    """``[port_test]``: the page ``/port-test`` and its loop-back. ``public_ports``: empty for those of the
    listeners.
    """

    enabled: bool = False
    public_ports: tuple[PublicPort, ...] = ()


@frozen
class Tunnel:
    """``[tunnel]``: the behaviour of RTMPT sessions."""

    hold_s: Latency = field(default=LATENCIES["low"], metadata={"key": "latency"})
    streamed_answers: StreamedAnswers = StreamedAnswers.DIRECT
    answer_s: float = field(default=1.0, validator=[ge(0.1), le(10.0)])
    replace_publisher: bool = False
    cookie: CookieName | None = None


@frozen
class CrossDomain:
    """``[cross_domain]``: the policy files for Flash Player and Silverlight, generated or as they are."""

    domains: tuple[DomainPattern, ...] = ()
    ports: tuple[Port, ...] = field(default=DEFAULT_SOCKET_PORTS, validator=_not_empty)
    secure: bool = True
    crossdomain_file: AbsolutePath | None = None
    clientaccesspolicy_file: AbsolutePath | None = None


@frozen
class Cors:
    """``[cors]``: the pages whose scripts may use the tunnel in browsers."""

    origins: tuple[WebOrigin, ...] = field(validator=_not_empty)


@frozen
class Admin:
    """``[admin]``: the admin server. Other machines may reach it only if it authenticates clients."""

    address: ListenAddress = DEFAULT_ADMIN
    token_file: AbsolutePath | None = None
    certificate: AbsolutePath | None = None
    client_authorities: AbsolutePath | None = None
    hosts: tuple[Host, ...] = ()

    @property
    def is_private(self) -> bool:
        """Whether only this machine can connect to it."""
        return isinstance(self.address, UnixAddress) or (
            isinstance(self.address, TcpAddress) and self.address.is_loopback
        )


@frozen
class Telemetry:
    """``[telemetry]``: what is measured of sessions, and how many have their own time series."""

    enabled: bool = True
    media: bool = False
    session_series: int = field(default=1000, validator=ge(0))


@frozen
class Log:
    """``[log]``: format, level and rate of log lines, and the path of the access log."""

    format: LogFormat = "text"
    level: LogLevel = "info"
    lines_per_s: int = field(default=100, validator=ge(1))
    access: AbsolutePath | None = None


@frozen
class Node:
    """``[node]``: the identity of this gateway in a group of gateways.

    ``address`` is where other nodes connect, with certificates that ``authorities`` have signed.
    ``public_address``: the host that clients are told to connect to.
    """

    id: NodeId = DEFAULT_NODE
    address: NodeAddress | None = None
    certificate: AbsolutePath | None = None
    authorities: AbsolutePath | None = None
    public_address: Host | None = None


@frozen
class Peer:
    """``[[peer]]``: another node of the group."""

    node: NodeId
    address: PeerAddress


@frozen
class Origin:
    """``[origin]``: the embedded RTMP server, which is used if no upstream is configured."""

    second_publisher: SecondPublisher = "refuse"


@frozen
class Config:
    """The whole configuration. ``source`` reports problems that are found later."""

    workers: WorkerCount = ONE_WORKER_A_CORE
    listeners: tuple[Listener, ...] = field(default=(), metadata={"key": "listener"})
    upstreams: tuple[Upstream, ...] = field(default=(), metadata={"key": "upstream"})
    routes: tuple[Route, ...] = field(default=(), metadata={"key": "route"})
    udp: tuple[Udp, ...] = ()
    tls: Tls = Tls()
    website: Website | None = None
    port_test: PortTest = PortTest()
    mirrors: tuple[Mirror, ...] = field(default=(), metadata={"key": "mirror"})
    access: tuple[AccessRule, ...] = ()
    stream_keys: StreamKeys | None = None
    callback: Callback | None = None
    tunnel: Tunnel = Tunnel()
    cross_domain: CrossDomain | None = None
    cors: Cors | None = None
    admin: Admin | None = None
    node: Node = Node()
    peers: tuple[Peer, ...] = field(default=(), metadata={"key": "peer"})
    origin: Origin = Origin()
    telemetry: Telemetry = Telemetry()
    log: Log = Log()
    limits: Limits = Limits()
    source: Source = field(default=Source("configuration"), eq=False, metadata={"key": None})

    @property
    def upstreams_of_clients(self) -> tuple[Upstream, ...]:
        """Those that are not for mirrors."""
        of_mirrors = {mirror.upstream for mirror in self.mirrors}
        return tuple(each for each in self.upstreams if each.name not in of_mirrors)

    @property
    def decrypts_all(self) -> bool:
        """Whether the gateway decrypts the RTMPE of clients for each of their servers."""
        return not self.uses_origin and all(
            upstream.decrypts(server)
            for upstream in self.upstreams_of_clients
            for server in upstream.servers
        )

    @property
    def uses_origin(self) -> bool:
        """Whether clients reach the embedded origin: no upstream is for them, but for mirrors at most."""
        return not self.upstreams_of_clients
