"""Real programs publish and play through the tunnel client in networks with firewalls and proxies.

Client and server are in network namespaces of their own. All servers and proxies of this file run from its
first test on, each on its port; the firewall of a test leaves some of them to reach. The port tester's
verdict on each such network is in ``test_port_test``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from attrs import frozen
from cryptography import x509
from cryptography.x509.oid import NameOID

from tests.helpers.interop.between import (
    BASIC,
    DIGEST,
    OPEN,
    start_between,
    start_squid,
    start_tinyproxy,
)
from tests.helpers.interop.clients import (
    FFmpegPlayer,
    GStreamer2Player,
    publish,
    publish_by_gstreamer,
    url,
)
from tests.helpers.interop.clips import Packet, lacks_at_most_the_last
from tests.helpers.interop.firewalled import AVAILABLE, NAME, SERVER, firewalled
from tests.helpers.interop.port_tester import Site
from tests.helpers.interop.programs import Program, Programs, needs, until
from tests.helpers.interop.secure import make_authority
from tests.helpers.interop.tunnel_client import TunnelClient, start_client

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="needs root, iproute2 and nftables")

_PLAYED_S = 20.0
# A race, with a firewall that drops the first way, takes 0.25 s and some round trips.
_MOST_RACE_S = 1.0

_SQUID_OPEN, _SQUID_BASIC, _SQUID_DIGEST, _TINYPROXY = 3128, 3129, 3130, 3131
_HAPROXY, _CUTTING, _BUFFERING, _INSPECTING, HOLDING = 8080, 8081, 8082, 8443, 8090
_PORTS = (
    *(_SQUID_OPEN, _SQUID_BASIC, _SQUID_DIGEST, _TINYPROXY),
    *(_HAPROXY, _CUTTING, _BUFFERING, _INSPECTING),
)

_HAPROXY_TEXT = """
defaults
    mode http
    timeout connect 5s
    timeout client 20s
    timeout server 20s
listen relay
    bind :{haproxy}
    server gateway 127.0.0.1:80
listen cutting
    bind :{cutting}
    timeout server 1s
    log stdout format raw local0
    option httplog
    server gateway 127.0.0.1:{holding}
"""


@frozen
class Networks:
    """The site with all servers. ``holding``: the gateway behind the port that cuts. ``company``: the path
    of the inspecting proxy's root, and ``issuer`` its name.
    """

    site: Site
    gateway: Program
    holding: Program
    haproxy: Program
    company: str
    issuer: str


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Networks]:
    folder = tmp_path_factory.mktemp("networks")
    programs = Programs(folder)
    with firewalled() as network:
        site = Site(network, programs, make_authority(folder), folder)
        try:
            yield start_servers(site)
        finally:
            programs.stop()


def start_servers(site: Site) -> Networks:
    programs, far = site.programs, site.network.far
    start_squid(programs, far, _SQUID_OPEN, OPEN)
    start_squid(programs, far, _SQUID_BASIC, BASIC)
    start_squid(programs, far, _SQUID_DIGEST, DIGEST)
    tinyproxy = "Allow 10.198.0.0/24\nConnectPort 443\nBasicAuth ann secret\n"
    start_tinyproxy(programs, far, _TINYPROXY, tinyproxy)
    path = programs.new_folder("haproxy") / "haproxy.cfg"
    text = _HAPROXY_TEXT.format(haproxy=_HAPROXY, cutting=_CUTTING, holding=HOLDING)
    path.write_text(text)
    haproxy = programs.start(*far, needs("haproxy"), "-db", "-f", str(path))
    company = site.folder / "company"
    company.mkdir()
    inspecting = make_authority(company)
    certificate = str(inspecting.certify("inspecting.pem", NAME))
    gateway = site.start_gateway()
    # It holds answers for longer than a second.
    holding = site.start_gateway('[tunnel]\nlatency = "high"\n', [(str(HOLDING), False)])
    start_between(programs, far, "inspect", str(_INSPECTING), "443", certificate)
    start_between(programs, far, "buffer", str(_BUFFERING), "80")
    until(lambda: site.answers(*_PORTS), "all servers listen")
    issuer = x509.load_pem_x509_certificate(inspecting.ca.cert_pem.bytes()).subject
    (name,) = issuer.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return Networks(
        *(site, gateway, holding, haproxy),
        *(inspecting.root_path, str(name.value)),
    )


@frozen
class Network:
    """A firewall and the client's options. ``won``: the way that gets through.

    ``open_ports``: of TCP; none for all but ``closed``. ``redirected``: of the port 80 or 443.
    """

    won: str
    open_ports: tuple[int, ...] = ()
    closed: int = 0
    redirected: tuple[int, int] | None = None
    options: tuple[str, ...] = ()
    proxy: str = ""


_PUBLISHERS = {
    "ffmpeg": partial(publish, in_real_time=False),
    "gstreamer": publish_by_gstreamer,
}
_ANN = "ann:secret@"
_TUNNEL = ("--way", "rtmpt")
_CUT = "requests are cut at 1 s"
NETWORKS = {
    "1935 dropped": Network("rtmps:443", closed=1935),
    "all but 80 and 443 dropped": Network("rtmps:443", (80, 443)),
    "squid": Network("rtmps:443 by proxy", (_SQUID_OPEN,), proxy=f"{SERVER}:{_SQUID_OPEN}"),
    "squid, Basic": Network(
        "rtmps:443 by proxy",
        (_SQUID_BASIC,),
        proxy=f"{_ANN}{SERVER}:{_SQUID_BASIC}",
        options=("--way", "rtmps"),
    ),
    "squid, Digest, tunnel": Network(
        *("rtmpt:80 by proxy", (_SQUID_DIGEST,)),
        proxy=f"{_ANN}{SERVER}:{_SQUID_DIGEST}",
        options=_TUNNEL,
    ),
    "squid, Digest, tunnel in TLS": Network(
        *("rtmpts:443 by proxy", (_SQUID_DIGEST,)),
        options=("--way", "rtmpts", "--proxy", f"http://{_ANN}{SERVER}:{_SQUID_DIGEST}"),
    ),
    "tinyproxy": Network("rtmps:443 by proxy", (_TINYPROXY,), proxy=f"{_ANN}{SERVER}:{_TINYPROXY}"),
    "tinyproxy, tunnel": Network(
        *("rtmpt:80 by proxy", (_TINYPROXY,)),
        proxy=f"{_ANN}{SERVER}:{_TINYPROXY}",
        options=_TUNNEL,
    ),
    "HAProxy": Network("rtmpt:80", (_HAPROXY,), redirected=(80, _HAPROXY)),
    "answers are buffered": Network("rtmpt:80", (_BUFFERING,), redirected=(80, _BUFFERING)),
    _CUT: Network("rtmpt:80", (_CUTTING,), redirected=(80, _CUTTING)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_programs_publish_and_play_exactly(
    networks: Networks,
    name: str,
    programs: Programs,
    clip: Path,
    packets: list[Packet],
) -> None:
    network = NETWORKS[name]
    client = connect_client(networks, network, programs)
    _exchange(networks, name, client, programs, clip, packets)
    assert _race_s(client, network.won) < _MOST_RACE_S


def _race_s(client: TunnelClient, way: str) -> float:
    """How long the first stream's race took, which this way has won."""
    number, unit = client.program.says(f"stream 1 goes by {way}, after ").split(";")[0].split()
    return float(number) / {"ms": 1000, "s": 1}[unit]


def _exchange(
    networks: Networks,
    name: str,
    client: TunnelClient,
    programs: Programs,
    clip: Path,
    packets: list[Packet],
) -> None:
    """Publish a stream with each program, and play each stream with both, at the same time."""
    near = networks.site.network.near
    is_cut = name == _CUT
    gateway = networks.holding if is_cut else networks.gateway
    exchanges = []
    for publishing, start_publisher in _PUBLISHERS.items():
        path = f"live/{name.replace(' ', '')}-{publishing}"
        local = url("rtmp", client.port, path)
        ffmpeg = FFmpegPlayer(programs, local, inside=near)
        gstreamer = GStreamer2Player(programs, local, inside=near)
        _await_players(gateway, path, 2)
        if is_cut:
            # HAProxy's line for a request that was cut, which is a player's.
            until(lambda: " 504 " in networks.haproxy.log, "a request is cut")
        publisher = start_publisher(programs, clip, local, inside=near)
        exchanges.append((publisher, ffmpeg, gstreamer))
    for publisher, ffmpeg, gstreamer in exchanges:
        for program in (publisher, ffmpeg.program, gstreamer.program):
            assert program.ends(_PLAYED_S) == 0, program.log
        # GStreamer interleaves sound and pictures in another order.
        assert sorted(ffmpeg.packets()) == sorted(packets)
        assert lacks_at_most_the_last(gstreamer.packets(), packets)


def _await_players(gateway: Program, path: str, number: int) -> None:
    line = f'plays "{path}"'
    until(lambda: gateway.log.count(line) >= number, f"{number} players of {path}")


def test_a_certificate_of_an_inspecting_proxy_is_refused_by_its_issuer_and_accepted_by_choice(
    networks: Networks, programs: Programs, clip: Path, packets: list[Packet]
) -> None:
    inspected = Network("rtmps:443", (_INSPECTING,), redirected=(443, _INSPECTING))
    client = connect_client(networks, inspected, programs, "--way", "rtmps")
    local = url("rtmp", client.port, "live/refused")
    refused = FFmpegPlayer(programs, local, inside=networks.site.network.near)
    assert refused.program.ends(_PLAYED_S) != 0
    said = client.program.says("rtmps:443: the authority of the certificate, ")
    assert said.startswith(f'"{networks.issuer}", is not trusted: an inspecting proxy\'s, or ')
    client = connect_client(networks, inspected, programs, "--way", "rtmps", ca=networks.company)
    _exchange(networks, "inspected", client, programs, clip, packets)


def connect_client(
    networks: Networks, network: Network, programs: Programs, *options: str, ca: str = ""
) -> TunnelClient:
    firewall = networks.site.network
    firewall.permit_all()
    if network.redirected is not None:
        firewall.redirect(*network.redirected)
    if network.open_ports:
        firewall.forbid(f"tcp dport != {{ {', '.join(map(str, network.open_ports))} }} drop")
    if network.closed:
        firewall.forbid(f"tcp dport {network.closed} drop")
    return start_client(
        programs,
        *("--gateway", NAME, "--ca", ca or networks.site.authority.root_path),
        *(*network.options, *options),
        inside=firewall.near,
        environment=dict.fromkeys(("http_proxy", "https_proxy"), network.proxy),
    )
