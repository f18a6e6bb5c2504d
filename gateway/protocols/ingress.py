"""The ingress of a session: the client protocol and the listener."""

from __future__ import annotations

from typing import Final

from attrs import frozen

PROTOCOLS: Final = ("rtmpt", "rtmpts", "rtmp", "rtmps")
# Relayed datagrams, on listeners of their own.
UDP: Final = "udp"
# In front of the server's name in labels and logs of sessions by UDP: a media server can have the same
# address and port over TCP.
UDP_SCHEME: Final = "udp://"


@frozen
class Ingress:
    """``protocol`` is one of ``PROTOCOLS`` or ``UDP``, ``listener`` an address as the operator wrote it.

    ``server_name``: the name that the client has asked for in TLS (SNI), or empty.
    """

    protocol: str = "rtmpt"
    listener: str = ""
    server_name: str = ""


# The default, where the ingress does not matter.
RTMPT: Final = Ingress("rtmpt")
RTMP: Final = Ingress("rtmp")
