"""The page of the port test: one HTML document with its style and script, and nothing from elsewhere.

Its Content-Security-Policy permits the script and style by their hashes, and requests to the gateway's own
host only, so that nothing else could be requested even if the script had a fault.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final, final

_FOLDER: Final = Path(__file__).parent
_POLICY: Final = (
    "default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; "
    "connect-src {{}}; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_FIELDS: Final = (
    "Content-Type: text/html; charset=utf-8\r\nCache-Control: no-store\r\n"
    "Content-Security-Policy: {}\r\n"
    "Referrer-Policy: no-referrer\r\nX-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\n"
)
# A host name or an IPv4 address, without a port. A policy has no form for IPv6 addresses.
_NAME: Final = re.compile(rb"([A-Za-z0-9._-]+)(?::[0-9]*)?")


@final
class Page:
    """``ways``: the gateway's public ports, as ``http:80`` or ``https:443``. Reads the files once."""

    def __init__(self, ways: Sequence[str], folder: Path = _FOLDER) -> None:
        script = (folder / "page.js").read_text("utf-8")
        style = (folder / "page.css").read_text("utf-8")
        document = (folder / "page.html").read_text("utf-8").replace("WAYS", " ".join(ways))
        self._ways = ways
        self._policy = _POLICY.format(script=_digest(script), style=_digest(style))
        self.body = document.replace("/*STYLE*/", style).replace("/*SCRIPT*/", script).encode()

    def fields_for(self, host: bytes) -> bytes:
        """The field lines of the page for a request with this ``Host``."""
        match = _NAME.fullmatch(host)
        if match is None:
            sources = "'self' http: https:"
        else:
            name = match[1].decode()
            ways = (way.partition(":") for way in self._ways)
            sources = " ".join(
                ["'self'", *(f"{scheme}://{name}:{port}" for scheme, _, port in ways)]
            )
        return _FIELDS.format(self._policy.format(sources)).encode()


def _digest(text: str) -> str:
    return b64encode(sha256(text.encode()).digest()).decode()
