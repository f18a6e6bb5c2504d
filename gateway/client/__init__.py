"""The tunnel client, ``rtmpt-client``: local RTMP programs reach a gateway by whatever way gets through."""
