"""The server side: which RTMP server to take, and the connection to it."""
