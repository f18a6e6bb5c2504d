"""A name server with records of the test, by UDP and TCP, which can fail in many ways.

As a program, ``python -m tests.helpers.name_server ADDRESS PORT FILE``, it reads its records from a JSON
file before each answer: ``{"NAME TYPE": [["VALUE", TTL], ...]}``, or a fault as a string. The value of a
SRV record is "PRIORITY WEIGHT PORT TARGET".
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.names import dns
from twisted.protocols.basic import Int16StringReceiver

Records = dict[str, list[tuple[str, int]]]
_TYPES: dict[int, str] = {dns.A: "A", dns.AAAA: "AAAA", dns.SRV: "SRV", dns.CNAME: "CNAME"}


def payload(kind: str, value: str) -> Any:
    if kind == "SRV":
        priority, weight, port, target = value.split()
        # Twisted knows the root, ".", as an empty name.
        return dns.Record_SRV(int(priority), int(weight), int(port), target.rstrip("."))
    return getattr(dns, f"Record_{kind}")(value)


class NameServer:
    """``fault``: "", "silent", "refuses" (SERVFAIL), "truncates" (by UDP), "garbage", or "wrong id".

    ``asked``: the questions so far, as "udp NAME TYPE". ``replace_answer``: changes the bytes of an answer
    by TCP.
    """

    def __init__(self, records: Records | None = None) -> None:
        self.records = records or {}
        self.fault = ""
        self.asked: list[str] = []
        self.replace_answer: Callable[[bytes], bytes] = lambda answer: answer

    def listen(self, reactor: Any, host: str = "127.0.0.1", port: int = 0) -> list[Any]:
        """Twisted's ports, for UDP and TCP with the same number."""
        factory = Factory.forProtocol(_Connection)
        factory.server = self
        tcp = reactor.listenTCP(port, factory, interface=host)
        udp = reactor.listenUDP(tcp.getHost().port, _Datagrams(self), interface=host)
        return [tcp, udp]

    def answer(self, question: bytes, way: str) -> bytes | None:
        """The answer; None for none."""
        message = dns.Message()
        message.fromStr(question)
        (asked,) = message.queries
        name, kind = str(asked.name).lower(), _TYPES.get(asked.type, "")
        self.asked.append(f"{way} {name} {kind}")
        if self.fault == "silent":
            return None
        if self.fault == "garbage":
            return question[:7]
        answer = dns.Message(message.id, answer=1, recAv=1)
        answer.queries = message.queries
        if self.fault == "wrong id":
            answer.id ^= 1
        if self.fault == "refuses":
            answer.rCode = dns.ESERVER
        elif self.fault == "truncates" and way == "udp":
            answer.trunc = 1
        else:
            self._fill(answer, name, kind)
        return answer.toStr()

    def _fill(self, answer: dns.Message, name: str, kind: str) -> None:
        if not any(key.split()[0] == name for key in self.records):
            answer.rCode = dns.ENAME
            return
        for alias, ttl in self.records.get(f"{name} CNAME", []):
            record = dns.Record_CNAME(alias, ttl=ttl)
            answer.answers.append(dns.RRHeader(name, dns.CNAME, dns.IN, ttl, record))
            name = alias
        for value, ttl in self.records.get(f"{name} {kind}", []):
            answer.answers.append(
                dns.RRHeader(name, getattr(dns, kind), dns.IN, ttl, payload(kind, value))
            )


class _Datagrams(DatagramProtocol):
    noisy = False

    def __init__(self, server: NameServer) -> None:
        self._server = server

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        answer = self._server.answer(datagram, "udp")
        if answer is not None:
            self.transport.write(answer, addr)


class _Connection(Int16StringReceiver):
    def stringReceived(self, string: bytes) -> None:
        server: NameServer = self.factory.server
        answer = server.answer(string, "tcp")
        if answer is not None:
            self.sendString(server.replace_answer(answer))


def main() -> None:
    from twisted.internet import reactor

    host, port, file = sys.argv[1:]

    class FromFile(NameServer):
        def answer(self, question: bytes, way: str) -> bytes | None:
            read = json.loads(Path(file).read_text())
            self.fault, self.records = (read, {}) if isinstance(read, str) else ("", read)
            return super().answer(question, way)

    FromFile().listen(reactor, host, int(port))
    print("listening", flush=True)
    reactor.run()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
