"""What is known about the traffic: counters, and the record written when a session ends."""
