"""Measurements: latencies, histories and counters of sessions, servers, connections and the event loop."""
