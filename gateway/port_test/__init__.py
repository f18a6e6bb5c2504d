"""The port tester: which ways of RTMP get out of a network, how well, and what is in between."""
