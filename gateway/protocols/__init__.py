"""What bytes mean. Pure: no Twisted, no clock, no log, no randomness, no sockets; time is a number."""
