"""What is fuzzed: a target for each reader of bytes from the network.

A target raises an exception if the reader raises any error but its own, or if a rule that holds for all
inputs is broken.
"""

from __future__ import annotations

from tests.fuzz import connection_targets, frame_targets, http_targets, rtmp_targets

TARGETS = {
    **rtmp_targets.TARGETS,
    **connection_targets.TARGETS,
    **http_targets.TARGETS,
    **frame_targets.TARGETS,
}
