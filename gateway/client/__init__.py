"""The tunnel client, ``rtmpt-client``: carries local RTMP streams to a gateway by the first way that works."""
