"""The tunnel client, ``rtmpt-client``: carries local programs' RTMP to a gateway by any way that works."""
