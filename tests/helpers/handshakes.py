"""TLS handshakes between two ends in memory."""

from __future__ import annotations

import ssl


def handshake(
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
    server_name: str | None,
    session: ssl.SSLSession | None = None,
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends of a connection after its handshake: client, server. Raises ssl.SSLError."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(down, up, server_hostname=server_name, session=session)
    server = server_context.wrap_bio(up, down, server_side=True)
    for end in (client, server, client, server, client, server):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return client, server
