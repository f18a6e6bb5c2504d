"""The server side: choice of an RTMP server, and connections to it."""
