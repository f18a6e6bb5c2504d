"""Programs between a client and a gateway that disturb: TLS inspection, buffered answers, HTTP proxies.

``python -m tests.helpers.interop.between inspect|buffer PORT TO_PORT [PEM]`` listens on all addresses of
its network namespace, and forwards to the port ``TO_PORT`` of its loopback address. With port 0 the system
chooses one, which is printed.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import sys
from contextlib import suppress
from hashlib import md5
from pathlib import Path

from tests.helpers.interop.programs import Programs, needs, squid, squid_folder
from tests.helpers.interop.servers import ROOT

_TINYPROXY = """
Port {port}
Listen 0.0.0.0
Timeout 60
MaxClients 50
LogLevel Warning
{access}
"""
_SQUID = """
http_port {port}
visible_hostname proxy
{access}
cache deny all
access_log none
cache_log {folder}/cache.log
pid_filename {folder}/squid.pid
coredump_dir {folder}
shutdown_lifetime 0 seconds
"""
BASIC = """
auth_param basic program {folder}/check
auth_param basic children 1 startup=1
acl known proxy_auth REQUIRED
http_access allow known
http_access deny all
"""
# A nonce is for few requests, so that a session has many challenges.
DIGEST = """
auth_param digest program {folder}/digest
auth_param digest children 1 startup=1
auth_param digest realm proxy
auth_param digest nonce_max_count 20
acl known proxy_auth REQUIRED
http_access allow known
http_access deny all
"""
OPEN = "http_access allow all"
# Squid's protocol for such programs: a line with name and password, and a line with the result.
_CHECK = """#!/bin/sh
while read -r line; do
    if [ "$line" = "ann secret" ]; then echo OK; else echo ERR; fi
done
"""
# The same for Digest: name and realm in quotes, and the hash of name, realm and password.
_DIGEST_CHECK = f"""#!/bin/sh
while read -r line; do
    if [ "$line" = '"ann":"proxy"' ]; then echo 'OK ha1="{md5(b"ann:proxy:secret").hexdigest()}"'
    else echo ERR; fi
done
"""
# Fields that the end of a body depends on, and those alone.
_FRAMING = re.compile(rb"(?im)^(?:content-length|transfer-encoding|connection):[^\r]*\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


def start_between(programs: Programs, inside: tuple[str, ...], *words: str) -> int:
    """Start this module as a program behind the words ``inside``. Returns its port."""
    program = programs.start(
        *(*inside, sys.executable, "-m", "tests.helpers.interop.between", *words),
        environment={"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
    )
    return int(program.says("listening on port ").split()[0])


def start_tinyproxy(programs: Programs, inside: tuple[str, ...], port: int, access: str) -> None:
    """Start tinyproxy; ``access`` are further lines of its configuration."""
    path = programs.new_folder("tinyproxy") / "tinyproxy.conf"
    path.write_text(_TINYPROXY.format(port=port, access=access))
    programs.start(*inside, needs("tinyproxy"), "-d", "-c", str(path))


def start_squid(
    programs: Programs, inside: tuple[str, ...], port: int, access: str = BASIC
) -> None:
    """Start squid. With ``BASIC`` and ``DIGEST``, it asks for ann's password, "secret"."""
    folder = squid_folder(programs)
    for name, text in (("check", _CHECK), ("digest", _DIGEST_CHECK)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    path = folder / "squid.conf"
    access = access.format(folder=folder)
    path.write_text(_SQUID.format(port=port, folder=folder, access=access))
    programs.start(*inside, *squid(path))


async def _inspect(port: int, to_port: int, certificate: str) -> None:
    """End TLS with a certificate of its own, and begin another to the server."""
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain(certificate)
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", to_port, ssl=trusting)
        await asyncio.gather(_copy(reader, there[1]), _copy(there[0], writer))

    await _serve(port, serve, own)


async def _buffer(port: int, to_port: int) -> None:
    """Pass requests as they are, and each answer once it is complete, with its length."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", to_port)
        await asyncio.gather(_copy(reader, there[1]), _copy_whole(there[0], writer))

    await _serve(port, serve, None)


async def _serve(port: int, serve: object, context: ssl.SSLContext | None) -> None:
    server = await asyncio.start_server(serve, port=port, ssl=context)  # type: ignore[arg-type]
    # With port 0, the system chooses another one for IPv6.
    (bound,) = (each for each in server.sockets if each.family is socket.AF_INET)
    print(f"listening on port {bound.getsockname()[1]} ")
    await server.serve_forever()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
    writer.close()


async def _copy_whole(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, asyncio.IncompleteReadError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            fields = _FRAMING.sub(b"", head.partition(b"\r\n")[2])
            is_empty = b" 204 " in head[:20]
            body = b"" if is_empty else await _body(reader, length)
            status = head.partition(b"\r\n")[0]
            length_field = b"Content-Length: %d\r\n" % len(body)
            writer.write(b"%s\r\n%s%s%s" % (status, length_field, fields, body))
    writer.close()


async def _body(reader: asyncio.StreamReader, length: re.Match[bytes] | None) -> bytes:
    return await (reader.readexactly(int(length[1])) if length else _chunks(reader))


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while True:
        size = int(await reader.readuntil(b"\r\n"), 16)
        body += await reader.readexactly(size)
        await reader.readexactly(2)
        if not size:
            return body


if __name__ == "__main__":
    what, *ports = sys.argv[1:4]
    with suppress(KeyboardInterrupt):
        if what == "inspect":
            asyncio.run(_inspect(int(ports[0]), int(ports[1]), str(Path(sys.argv[4]))))
        else:
            asyncio.run(_buffer(int(ports[0]), int(ports[1])))
