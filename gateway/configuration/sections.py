"""The sections of the configuration: one frozen class for each table, one attribute for each key.

etc/rtmpt-gateway.toml explains the keys. An attribute has its key's name, unless its metadata has another
under ``key``. Types and validators check a key by itself; checks.py compares keys with each other.
"""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import ge, le

from gateway.addresses import ListenAddress, Network, TcpAddress, UnixAddress
from gateway.configuration.problems import Source
from gateway.configuration.upstream_sections import Mirror, Route, Upstream
from gateway.configuration.values import (
    ANY_NAME,
    DEFAULT_CONGESTION_CONTROL,
    DEFAULT_NODE,
    DEFAULT_SOCKET_PORTS,
    LATENCIES,
    ONE_WORKER_A_CORE,
    AbsolutePath,
    AccessAction,
    CallbackFailure,
    CallbackMethod,
    CongestionControl,
    CookieName,
    DatagramAddress,
    DatagramProxyProtocol,
    DatagramServer,
    DomainPattern,
    Host,
    HttpUrl,
    Latency,
    LogFormat,
    LogLevel,
    NodeAddress,
    NodeId,
    Pattern,
    PeerAddress,
    Port,
    PublicPort,
    SecondPublisher,
    StreamAction,
    WebOrigin,
    WebServerAddress,
    WorkerCount,
    not_empty,
)
from gateway.protocols.limits import Limits, StreamedAnswers

DEFAULT_ADMIN = TcpAddress("127.0.0.1", 9935)


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
    required_for: tuple[StreamAction, ...] = field(default=("publish",), validator=not_empty)


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
    """``[port_test]``: the page ``/port-test`` and its loopback. ``public_ports``: empty for those of the
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
    ports: tuple[Port, ...] = field(default=DEFAULT_SOCKET_PORTS, validator=not_empty)
    secure: bool = True
    crossdomain_file: AbsolutePath | None = None
    clientaccesspolicy_file: AbsolutePath | None = None


@frozen
class Cors:
    """``[cors]``: the pages whose scripts may use the tunnel in browsers."""

    origins: tuple[WebOrigin, ...] = field(validator=not_empty)


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
    ``public_address``: the host in the answers to clients' ident requests.
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
