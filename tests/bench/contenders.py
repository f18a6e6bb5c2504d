"""The measured programs and their references: a program, and the protocol of its clients."""

from __future__ import annotations

from enum import Enum

from attrs import evolve, frozen


class Program(Enum):
    """The program between clients and media server."""

    GATEWAY = "gateway"
    HAPROXY = "HAProxy"


@frozen
class Contender:
    """``label`` heads its column. ``rtmpt`` and ``tls`` are the clients' protocol; the media server
    is always behind plain TCP. ``settings`` is the gateway's configuration beyond addresses and limits.
    ``tunnelled``: the clients speak RTMP to a tunnel client, at their end of a slow path."""

    label: str
    program: Program = Program.GATEWAY
    rtmpt: bool = False
    tls: bool = False
    settings: str = ""
    tunnelled: bool = False


RTMPT = Contender("RTMPT", rtmpt=True)
RTMPTS = Contender("RTMPTS", rtmpt=True, tls=True)
RTMP = Contender("RTMP")
TUNNELLED = Contender("tunnel client", tunnelled=True)
RTMPS = Contender("RTMPS", tls=True)
# Idles are answered at once.
UNHELD = evolve(RTMPT, settings="[tunnel]\nlatency = 0\n")
_UNMEASURED = "[telemetry]\nenabled = false\n"
UNMEASURED = evolve(RTMPT, label="without telemetry", settings=_UNMEASURED)
UNHELD_UNMEASURED = evolve(UNMEASURED, settings=UNHELD.settings + _UNMEASURED)
HAPROXY_TCP = Contender("HAProxy, TCP", Program.HAPROXY)
HAPROXY_TLS = Contender("HAProxy, TLS", Program.HAPROXY, tls=True)
