"""Settings of the whole suite."""

from __future__ import annotations

import os

from hypothesis import settings

# A busy machine is no fault of the code. In continuous integration the examples are the same each time,
# so that a change is judged by what it changed.
settings.register_profile("suite", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("suite")
