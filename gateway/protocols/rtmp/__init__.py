"""RTMP itself: handshake, chunks, AMF0, messages and commands, and a server's side of a live relay."""
