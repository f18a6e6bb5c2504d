"""The targets of the port test."""

from __future__ import annotations

import pytest

from gateway.errors import MethodNotAllowed, NotFound
from gateway.protocols.commands import Kind
from gateway.protocols.port_test.resources import (
    Name,
    Resource,
    is_of_port_test,
    resource_of,
)


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (b"/port-test", Name.PAGE),
        (b"/port-test/", Name.PAGE),
        (b"/port-test?from=mail", Name.PAGE),
        (b"http://site.example:80/port-test", Name.PAGE),
        (b"/port-test/ping?1", Name.PING),
        (b"/port-test/pieces", Name.PIECES),
    ],
)
def test_targets_name_a_resource(target: bytes, name: Name) -> None:
    assert is_of_port_test(target)
    assert resource_of(b"GET", target).name is name


def test_a_hold_has_one_of_three_durations() -> None:
    assert resource_of(b"GET", b"/port-test/hold/15") == Resource(Name.HOLD, 15.0)
    for other in (b"2", b"15.0", b"99999", b""):
        with pytest.raises(NotFound):
            resource_of(b"GET", b"/port-test/hold/" + other)


def test_commands_of_tunnels_have_the_prefix() -> None:
    assert resource_of(b"POST", b"/port-test/open/1").command == (Kind.OPEN, b"", None)
    sent = resource_of(b"POST", b"http://site/port-test/send/0001abc/7")
    assert (sent.name, sent.command) == (Name.TUNNEL, (Kind.SEND, b"0001abc", 7))
    for other in (b"/port-test/fcs/ident2", b"/port-test/send/x", b"/port-test/port-test/ping"):
        with pytest.raises(NotFound):
            resource_of(b"POST", other)


@pytest.mark.parametrize("target", [b"/port-testing", b"/", b"/open/1", b"/x/port-test", b"*"])
def test_other_targets_are_not_of_the_port_test(target: bytes) -> None:
    assert not is_of_port_test(target)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        (b"POST", b"/port-test/ping"),
        (b"GET", b"/port-test/upload"),
        (b"GET", b"/port-test/open/1"),
        (b"PUT", b"/port-test"),
    ],
)
def test_each_resource_has_one_method(method: bytes, target: bytes) -> None:
    with pytest.raises(MethodNotAllowed):
        resource_of(method, target)
    assert resource_of(b"OPTIONS", target)
