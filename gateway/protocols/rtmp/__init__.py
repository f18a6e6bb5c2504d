"""RTMP: handshake, chunks, AMF0, messages, commands, and the server side of a live relay."""
