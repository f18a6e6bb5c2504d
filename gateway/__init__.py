"""RTMPT gateway: clients connect with RTMP in HTTP; the media server gets RTMP connections."""
