"""Metrics for Prometheus: collectors over the plain counters, written by prometheus-client."""
