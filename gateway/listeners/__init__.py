"""Connections of clients: ports, TLS, protocol detection, HTTP, forwarding."""
