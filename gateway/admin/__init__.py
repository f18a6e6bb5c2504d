"""The operator's own HTTP: metrics, health, sessions, status page."""
