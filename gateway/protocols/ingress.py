"""How a session reached the gateway: client protocol and listener."""

from __future__ import annotations

from typing import Final

from attrs import frozen

PROTOCOLS: Final = ("rtmpt", "rtmpts", "rtmp", "rtmps")


@frozen
class Ingress:
    """``protocol`` is one of ``PROTOCOLS``, ``listener`` an address as the operator wrote it."""

    protocol: str = "rtmpt"
    listener: str = ""


# Of whoever does not say.
RTMPT: Final = Ingress("rtmpt")
RTMP: Final = Ingress("rtmp")
