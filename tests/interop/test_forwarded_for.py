"""nginx in front of the gateway, with client addresses in X-Forwarded-For."""

from __future__ import annotations

import socket
from contextlib import ExitStack

from tests.helpers.interop.programs import Programs
from tests.helpers.interop.secure import start_configured
from tests.helpers.interop.servers import LOOPBACK, run_nginx
from tests.interop.conftest import Upstream

# Other addresses of this machine, which are not nginx's own.
_CLIENT, _OTHER, _DENIED = "127.0.0.2", "127.0.0.3", "127.0.0.4"
_GATEWAY = """
[[listener]]
address = "{loopback}:0"
trusted = ["{loopback}/32"]
deny = ["{denied}/32"]
[[upstream]]
servers = ["{upstream}"]
[limits]
sessions_per_address = 1
connections_per_address = 1
"""
_NGINX = """
events {{ worker_connections 256; }}
http {{
    access_log off;
    {temp_paths}
    upstream gateway {{ server {gateway}; keepalive 8; }}
    server {{
        listen {listen};
        location / {{
            proxy_pass http://gateway;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }}
    }}
}}
"""
# Forged fields of a client: nginx appends the true address to the first, and forwards the second.
_OPEN = (
    b"POST /open/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
    b"X-Forwarded-For: 198.51.100.%d\r\nForwarded: for=198.51.100.%d\r\n\r\n\0"
)


def test_limits_and_rules_apply_to_the_client_address_from_nginx(
    programs: Programs, origin: Upstream
) -> None:
    configuration = _GATEWAY.format(loopback=LOOPBACK, upstream=origin.server, denied=_DENIED)
    gateway = start_configured(programs, configuration, 1)
    _, port = run_nginx(programs, _NGINX, gateway=f"{LOOPBACK}:{gateway.ports[0]}")
    statuses = []
    with ExitStack() as clients:
        for number, address in enumerate((_CLIENT, _CLIENT, _OTHER, _DENIED)):
            client = socket.create_connection((LOOPBACK, port), 10, (address, 0))
            clients.enter_context(client).sendall(_OPEN % (number, number))
            statuses.append(client.recv(4096)[9:12])
    assert statuses == [b"200", b"503", b"200", b"403"]
