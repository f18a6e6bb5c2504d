"""The example configuration, as it is and with all of its settings enabled."""

from __future__ import annotations

import re
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[2] / "etc/rtmpt-gateway.toml"


def enable_all(text: str) -> str:
    """The example with its disabled settings enabled: "#" without a space behind it."""
    return re.sub(r"^#(?=[\[a-z])", "", text, flags=re.MULTILINE)
