"""The client of an RTMPT session, without I/O: HTTP requests out, bytes of responses in."""
