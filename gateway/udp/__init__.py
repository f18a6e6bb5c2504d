"""Relaying of datagrams (RTMFP) to a server: listeners, and the sessions of clients."""
