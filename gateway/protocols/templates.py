"""Templates for properties of a connect command: text with names in braces, ``{app}``.

``{{`` and ``}}`` are braces. The names are those of ``NAMES``; their values are inserted as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter
from typing import Final

# What the client has sent, the host in its tcUrl, and the chosen server.
NAMES: Final = ("app", "host", "page_url", "server", "swf_url", "tc_url")


def check(template: str) -> None:
    """Raises ValueError, with what is wrong."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError:
        raise ValueError("a brace without its other one; write {{ or }} for a brace") from None
    for _, name, form, conversion in parts:
        if name is not None and (name not in NAMES or form or conversion):
            known = ", ".join(f"{{{each}}}" for each in NAMES)
            raise ValueError(f"unknown {{{name}}}; known: {known}")


def expand(template: str, values: Mapping[str, str]) -> str:
    """The text of a template that ``check`` has passed."""
    return template.format_map(values)
