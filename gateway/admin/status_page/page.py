"""The status page: one HTML document made of three files, without external resources.

Its Content-Security-Policy permits the script and style by their hashes, and nothing else, so that text
from clients cannot be executed, even if the script inserts it in a wrong place.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Final, final

from gateway.admin.http.responses import Response

_FOLDER: Final = Path(__file__).parent
_POLICY: Final = (
    "default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)


@final
class Page:
    """Reads the files once. ``answer``: the response for ``/``."""

    def __init__(self, folder: Path = _FOLDER) -> None:
        script = (folder / "page.js").read_text("utf-8")
        style = (folder / "page.css").read_text("utf-8")
        document = (folder / "page.html").read_text("utf-8")
        body = document.replace("/*STYLE*/", style).replace("/*SCRIPT*/", script).encode()
        policy = _POLICY.format(script=_digest(script), style=_digest(style))
        fields = {"Content-Security-Policy": policy}
        self.answer = Response(200, "text/html; charset=utf-8", body, fields)


def _digest(text: str) -> str:
    return b64encode(sha256(text.encode()).digest()).decode()
