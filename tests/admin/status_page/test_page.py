"""The status page: no external resources, and no execution of text from clients."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import gateway.admin.status_page.page
from gateway.admin.status_page.page import Page
from gateway.protocols.reasons import EndReason
from gateway.telemetry.logs.refusals import CAUSES

FOLDER = Path(gateway.admin.status_page.page.__file__).parent


def body() -> str:
    found = Page().answer.body
    assert isinstance(found, bytes)
    return found.decode()


def test_the_content_security_policy_allows_only_the_pages_own_script_and_style() -> None:
    policy = Page().answer.fields["Content-Security-Policy"]
    for name in ("script", "style"):
        (inside,) = re.findall(f"<{name}>(.*?)</{name}>", body(), re.DOTALL)
        digest = b64encode(sha256(inside.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy


def test_the_status_page_loads_nothing_from_other_hosts() -> None:
    addresses = set(re.findall(r"[a-z]+://[^\s\"'<>]+", body()))
    # SVG's name, which nobody fetches.
    assert addresses == {"http://www.w3.org/2000/svg"}


def test_the_script_creates_no_markup_from_strings() -> None:
    script = (FOLDER / "page.js").read_text()
    for ingress in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
    ):
        assert ingress not in script, ingress


def test_the_status_page_has_no_inline_handlers_or_styles() -> None:
    markup = (FOLDER / "page.html").read_text()
    assert not re.search(r"\s(on[a-z]+|style)=", markup)


def test_the_status_page_describes_every_end_reason_and_refusal() -> None:
    script = (FOLDER / "page.js").read_text()
    for name, known in (
        ("REASONS", {reason.value for reason in EndReason}),
        ("REFUSALS", set(CAUSES)),
    ):
        (inside,) = re.findall(f"const {name} = {{(.*?)}};", script, re.DOTALL)
        assert set(re.findall(r'(\w+): "', inside)) == known


def test_every_table_has_column_headings() -> None:
    markup = (FOLDER / "page.html").read_text()
    assert markup.count("<table") == len(re.findall(r"<thead><tr>\s*<th scope=", markup))
    assert "<th>" not in markup


def test_the_total_number_of_connections_is_not_labelled_as_the_current_number() -> None:
    names = re.findall(r'\["([^"]*[Cc]onnections[^"]*)", ', (FOLDER / "page.js").read_text())
    assert sorted(names) == ["Connections now", "Connections so far", "Connections so far"]
    heads = re.findall(r">([^<]*[Cc]onnections[^<]*)<", (FOLDER / "page.html").read_text())
    assert heads == ["Connections so far"]


def luminance(colour: str) -> float:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_colours_of_the_page_have_sufficient_contrast() -> None:
    style = (FOLDER / "page.css").read_text()
    for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL):
        colours = dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", block))
        for ground in ("ground", "card"):
            under = luminance(colours[ground])
            for name in set(colours) - {"ground", "card", "line"}:
                over = luminance(colours[name])
                ratio = (max(over, under) + 0.05) / (min(over, under) + 0.05)
                # WCAG 2.2, 1.4.3
                assert ratio >= 4.5, (name, ground, ratio)
