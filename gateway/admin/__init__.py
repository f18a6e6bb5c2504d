"""The admin server: health, metrics, sessions and the status page, for operators."""
