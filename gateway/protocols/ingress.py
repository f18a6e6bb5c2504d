"""The ingress of a session: the client protocol and the listener."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from attrs import frozen

PROTOCOLS: Final = ("rtmpt", "rtmpts", "rtmp", "rtmps")
# Relayed datagrams, which have separate listeners.
UDP: Final = "udp"
# In front of the server's name in labels and logs of sessions by UDP: a media server can have the same
# address and port over TCP.
UDP_SCHEME: Final = "udp://"
# Clients choose the server names, so their number must be bounded.
_SHARED: Final = 256


@frozen
class Ingress:
    """``protocol`` is one of ``PROTOCOLS`` or ``UDP``, ``listener`` an address as the operator wrote it.

    ``server_name``: the name that the client has asked for in TLS (SNI), or empty.
    """

    protocol: str = "rtmpt"
    listener: str = ""
    server_name: str = ""


@lru_cache(maxsize=_SHARED)
def shared_ingress(protocol: str, listener: str, server_name: str = "") -> Ingress:
    """One object for all sessions with the same ingress, as long as there are not too many others."""
    return Ingress(protocol, listener, server_name)


# The default, where the ingress does not matter.
RTMPT: Final = Ingress("rtmpt")
RTMP: Final = Ingress("rtmp")
