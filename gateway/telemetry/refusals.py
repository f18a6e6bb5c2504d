"""Why opens are refused, as metrics and logs call it: one closed list, made of the field's own errors."""

from __future__ import annotations

import re
from typing import Final

from gateway.errors import (
    CapacityReached,
    Draining,
    OpeningFailed,
    RequestRefused,
    ResourcesExhausted,
    UpstreamUnavailable,
)


def cause_of(error: type[RequestRefused]) -> str:
    """The error's name as a label has it: ``UpstreamUnavailable`` is ``upstream_unavailable``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", error.__name__).lower()


CAUSES: Final = tuple(
    map(
        cause_of,
        (CapacityReached, Draining, OpeningFailed, ResourcesExhausted, UpstreamUnavailable),
    )
)
