"""A client's network behind a firewall: two namespaces, of the client and of the server, and their link.

The client knows the server by the name ``NAME``, with an IPv4 and an IPv6 address. Both namespaces are
empty, so that servers can use the ports that clients expect. Needs root, iproute2 and nftables.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from attrs import frozen

NAME = "media.example.org"
SERVER, SERVER_6 = "10.198.0.1", "fd00:198::1"
_CLIENT, _CLIENT_6 = "10.198.0.2", "fd00:198::2"
_FILES = Path("/etc/netns")
_TABLE = """table inet firewall {
    chain sent { type filter hook output priority 0; }
    chain redirected { type nat hook output priority -100; }
}"""
_names = count()

AVAILABLE = os.geteuid() == 0 and all(shutil.which(name) for name in ("ip", "nft"))


@frozen
class Firewalled:
    """``near`` and ``far``: the words before a command of the client's and of the server's side."""

    client: str
    server: str

    @property
    def near(self) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self.client)

    @property
    def far(self) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self.server)

    def forbid(self, rule: str) -> None:
        """Add an nftables rule for packets to others, such as ``tcp dport 1935 drop``."""
        words = f'inet firewall sent oifname != "lo" {rule}'.split()
        _run(*self.near, "nft", "add", "rule", *words)

    def permit_all(self) -> None:
        """Remove all rules and redirections."""
        for chain in ("sent", "redirected"):
            _run(*self.near, "nft", "flush", "chain", "inet", "firewall", chain)

    def redirect(self, port: int, to: int) -> None:
        """Connections of the client to the server's ``port`` reach the port ``to``."""
        for family, address in (("ip", SERVER), ("ip6", f"[{SERVER_6}]")):
            rule = f"tcp dport {port} dnat {family} to {address}:{to}"
            _run(*self.near, "nft", "add", "rule", "inet", "firewall", "redirected", *rule.split())


@contextmanager
def firewalled() -> Iterator[Firewalled]:
    """Two new namespaces, which are removed at the end."""
    name = f"fw{os.getpid() % 100_000}{next(_names)}"
    network = Firewalled(f"{name}c", f"{name}s")
    try:
        _make(network, f"{name}a", f"{name}b")
        yield network
    finally:
        for namespace in (network.client, network.server):
            subprocess.run(["ip", "netns", "del", namespace], check=False)
            shutil.rmtree(_FILES / namespace, ignore_errors=True)


def _make(network: Firewalled, near: str, far: str) -> None:
    # ``ip netns exec`` puts these in the place of the files of /etc.
    for namespace in (network.client, network.server):
        files = _FILES / namespace
        files.mkdir(parents=True)
        (files / "hosts").write_text(f"{SERVER} {NAME}\n{SERVER_6} {NAME}\n")
        _run("ip", "netns", "add", namespace)
        _run("ip", "-n", namespace, "link", "set", "lo", "up")
    # No packet to it arrives.
    (_FILES / network.client / "resolv.conf").write_text("nameserver 10.198.0.99\n")
    _run("ip", "-n", network.client, "link", "add", near, "type", "veth", "peer", far)
    _run("ip", "-n", network.client, "link", "set", far, "netns", network.server)
    _address(network.client, near, _CLIENT, _CLIENT_6)
    _address(network.server, far, SERVER, SERVER_6)
    _run(*network.near, "nft", _TABLE)


def _address(namespace: str, device: str, address: str, address_6: str) -> None:
    _run("ip", "-n", namespace, "addr", "add", f"{address}/24", "dev", device)
    _run("ip", "-n", namespace, "addr", "add", f"{address_6}/64", "dev", device, "nodad")
    _run("ip", "-n", namespace, "link", "set", device, "up")


def _run(*words: str) -> None:
    subprocess.run(words, check=True)
