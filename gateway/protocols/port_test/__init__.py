"""The gateway's side of the port test without I/O: resources, origins, rates, and the loopback's RTMP."""
