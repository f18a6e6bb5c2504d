"""Why opens are refused, as metrics and logs call it: one closed list, made of the field's own errors;
and the warnings about them, one a minute for each cause.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, final

from twisted.logger import Logger

from gateway.errors import (
    CapacityReached,
    Draining,
    OpeningFailed,
    RequestRefused,
    ResourcesExhausted,
    UpstreamUnavailable,
)
from gateway.logs import debugging, repeated
from gateway.protocols.ingress import Ingress
from gateway.telemetry.observer import SessionObserver


def cause_of(error: type[RequestRefused]) -> str:
    """The error's name as a label has it: ``UpstreamUnavailable`` is ``upstream_unavailable``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", error.__name__).lower()


CAUSES: Final = tuple(
    map(
        cause_of,
        (CapacityReached, Draining, OpeningFailed, ResourcesExhausted, UpstreamUnavailable),
    )
)


_REFUSED: Final = "session refused: {cause} ({error}), for {address} by {protocol} on {listener}"


@final
class RefusalLog(SessionObserver):
    """A record of ``Sessions``."""

    _log = Logger()

    def __init__(self, warn: Callable[..., None] = repeated.warn) -> None:
        self._warn = warn

    def refused(self, error: RequestRefused, address: str, ingress: Ingress) -> None:
        cause = cause_of(type(error))
        fields = {
            "cause": cause.replace("_", " "),
            "error": str(error),
            "address": address or "a local client",
            "protocol": ingress.protocol.upper(),
            "listener": ingress.listener,
        }
        self._warn(self._log, f"{cause}: {error}", _REFUSED, **fields)
        if debugging.enabled:
            self._log.debug(_REFUSED, **fields)
