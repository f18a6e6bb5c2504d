"""Where a session came in: what its client speaks, and on which of our listeners."""

from __future__ import annotations

from typing import Final

from attrs import frozen

PROTOCOLS: Final = ("rtmpt", "rtmpts", "rtmp", "rtmps")


@frozen
class Way:
    """``protocol`` is one of ``PROTOCOLS``, ``listener`` an address as the operator wrote it."""

    protocol: str = "rtmpt"
    listener: str = ""


# Of whoever does not say.
RTMPT: Final = Way("rtmpt")
RTMP: Final = Way("rtmp")
