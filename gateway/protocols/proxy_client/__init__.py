"""The client of an HTTP proxy, without I/O: authentication, CONNECT, and forwarded requests."""
