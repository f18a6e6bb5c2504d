"""Templates for properties of a connect."""

from __future__ import annotations

import pytest

from gateway.protocols.templates import NAMES, check, expand

VALUES = {name: f"<{name}>" for name in NAMES}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("", ""),
        ("rtmp://{server}/{app}", "rtmp://<server>/<app>"),
        ("{{{host}}}", "{<host>}"),
        ("{tc_url}{swf_url}{page_url}", "<tc_url><swf_url><page_url>"),
    ],
)
def test_names_are_replaced_by_their_values(template: str, text: str) -> None:
    check(template)
    assert expand(template, VALUES) == text


def test_a_value_is_inserted_as_it_is() -> None:
    assert expand("{app}", {**VALUES, "app": "{host}"}) == "{host}"


@pytest.mark.parametrize(
    ("template", "cause"),
    [
        ("{", "a brace without its other one"),
        ("a}b", "a brace without its other one"),
        ("{stream}", "unknown {stream}; known: {app}, {host},"),
        ("{}", "unknown {}"),
        ("{app.__class__}", "unknown {app.__class__}"),
        ("{app[0]}", "unknown {app[0]}"),
        ("{app!r}", "unknown {app}"),
        ("{app:>99999999}", "unknown {app}"),
    ],
)
def test_anything_but_a_known_name_in_braces_is_refused(template: str, cause: str) -> None:
    with pytest.raises(ValueError, match=r"^a brace|^unknown") as refused:
        check(template)
    assert str(refused.value).startswith(cause)
