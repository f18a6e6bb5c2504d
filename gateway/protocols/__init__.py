"""Protocols without I/O: bytes in, answers or events out. No Twisted, clock, log, randomness or sockets."""
