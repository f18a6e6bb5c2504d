"""RTMPT gateway: RTMP in HTTP on the outside, plain RTMP connections to a media server inside."""
