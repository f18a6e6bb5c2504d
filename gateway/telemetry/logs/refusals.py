"""Refused opens: their causes as metrics and logs name them, and log warnings.

The causes are a closed list, derived from the errors. One warning a minute is logged for each cause.
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
    UpstreamFull,
    UpstreamUnavailable,
)
from gateway.logs import debugging, repeated
from gateway.protocols.ingress import Ingress
from gateway.telemetry.observer import SessionObserver


def cause_of(error: type[RequestRefused]) -> str:
    """The label of an error: ``UpstreamUnavailable`` has ``upstream_unavailable``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", error.__name__).lower()


CAUSES: Final = tuple(
    map(
        cause_of,
        (
            *(CapacityReached, Draining, OpeningFailed, ResourcesExhausted),
            *(UpstreamFull, UpstreamUnavailable),
        ),
    )
)


_REFUSED: Final = "session refused: {cause} ({error}), for {address} by {protocol} on {listener}"


@final
class RefusalLog(SessionObserver):
    """Logs warnings of refused opens."""

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
