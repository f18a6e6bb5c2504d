"""The resources of the admin server: health, metrics, sessions, upstreams, event streams."""
