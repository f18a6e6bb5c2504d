"""The page of the port test: nothing from elsewhere, and no execution of text."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import pytest

import gateway.listeners.port_test.page
from gateway.listeners.port_test.page import Page
from gateway.protocols.port_test.resources import HOLDS_S, PIECE_S, PIECES, PONG, UPLOAD_BYTES
from tests.admin.status_page.test_page import luminance

FOLDER = Path(gateway.listeners.port_test.page.__file__).parent
PAGE = Page(("http:80", "https:443", "https:8443"))
SCRIPT = (FOLDER / "page.js").read_text()


def test_the_content_security_policy_allows_only_the_pages_own_script_and_style() -> None:
    policy = PAGE.fields_for(b"site").decode()
    for name in ("script", "style"):
        (inside,) = re.findall(f"<{name}>(.*?)</{name}>", PAGE.body.decode(), re.DOTALL)
        digest = b64encode(sha256(inside.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    ("host", "sources"),
    [
        (b"site.example:8443", "'self' http://{0}:80 https://{0}:443 https://{0}:8443"),
        (b"192.0.2.1", "'self' http://{0}:80 https://{0}:443 https://{0}:8443"),
        # Policies have no form for these.
        (b"[2001:db8::1]:80", "'self' http: https:"),
        (b"site;script-src *", "'self' http: https:"),
        (b"", "'self' http: https:"),
    ],
)
def test_the_page_may_request_the_public_ports_of_its_host_only(host: bytes, sources: str) -> None:
    name = host.partition(b":")[0].decode()
    (found,) = re.findall("connect-src ([^;]*);", PAGE.fields_for(host).decode())
    assert found == sources.format(name)


def test_the_page_names_no_other_host_and_has_no_handlers_or_styles_inline() -> None:
    body = PAGE.body.decode()
    addresses = set(re.findall(r"[a-z]+://[^\s\"'`<>$]+", body))
    # SVG's name, which is not requested.
    assert addresses == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"\s(on[a-z]+|style)=", (FOLDER / "page.html").read_text())
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "cookie",
    ):
        assert word not in SCRIPT


def test_the_script_has_the_numbers_of_the_gateway() -> None:
    assert f'const PONG = "{PONG.decode()[:-1]}\\n";' in SCRIPT
    assert f"const HOLDS_S = {list(HOLDS_S)};" in SCRIPT
    assert f"PIECES = {PIECES}, PIECE_MS = {PIECE_S * 1000:.0f};" in SCRIPT
    (uploaded,) = re.findall(r"UPLOAD_BYTES = (\d+);", SCRIPT)
    assert int(uploaded) <= UPLOAD_BYTES


def test_the_colours_of_the_page_have_sufficient_contrast() -> None:
    blocks = re.findall(r":root \{(.*?)\}", (FOLDER / "page.css").read_text(), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        colours = dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", block))
        for ground in ("ground", "card"):
            under = luminance(colours[ground])
            for name in set(colours) - {"ground", "card", "line"}:
                over = luminance(colours[name])
                ratio = (max(over, under) + 0.05) / (min(over, under) + 0.05)
                # WCAG 2.2, 1.4.3
                assert ratio >= 4.5, (name, ground, ratio)
