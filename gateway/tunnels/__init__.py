"""Joins a session to its upstream; the one place where a session ends."""
