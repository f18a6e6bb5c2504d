"""Checks of ``[[udp]]`` against the other keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gateway.addresses import overlap, quoted
from gateway.configuration.problems import Problem
from gateway.configuration.sections import AccessRule, Config

# The actions of rules of [[access]] that can be applied by the address alone.
_OF_ADDRESSES: Final = ("connect", "all")


def check_udp(config: Config) -> Iterator[Problem]:
    """Two relays at one address, more datagrams than queues hold, and access control that is bypassed."""
    for index, udp in enumerate(config.udp):
        for earlier, other in enumerate(config.udp[:index]):
            if overlap(udp.address, other.address):
                yield Problem(
                    ("udp", index, "address"),
                    f"{quoted(str(udp.address))} overlaps {quoted(str(other.address))} of [[udp]]"
                    f" {earlier + 1}; use another",
                )
        if udp.queued_bytes < udp.datagram_bytes:
            yield Problem(
                ("udp", index, "queued_bytes"),
                f"{udp.queued_bytes}: must be >= datagram_bytes ({udp.datagram_bytes}); raise it",
            )
        unchecked = _unchecked(config)
        if unchecked and not udp.bypasses_access:
            yield Problem(
                ("udp", index),
                f"{unchecked} cannot be applied to clients by UDP, whose datagrams are not read; set"
                " bypasses_access = true to relay them nevertheless, or remove one of them",
            )


def _unchecked(config: Config) -> str:
    """The access control that cannot be applied by UDP; "" if there is none."""
    if config.stream_keys is not None:
        return "[stream_keys]"
    callback = config.callback
    if callback is not None and (callback.on_connect or callback.on_publish or callback.on_play):
        return "[callback]"
    for number, rule in enumerate(config.access, 1):
        if not _is_of_addresses(rule):
            return f"[[access]] {number}"
    return ""


def _is_of_addresses(rule: AccessRule) -> bool:
    is_any = rule.application == "*" and rule.stream == "*"
    return is_any and (rule.allow or rule.deny) in _OF_ADDRESSES
