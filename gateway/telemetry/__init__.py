"""Telemetry: measurement of sessions, metrics, and logs."""
