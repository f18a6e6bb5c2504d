"""A fuzzed target, without the readers: atheris must instrument those when they are imported."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import frozen


@frozen
class Target:
    """``run`` is called with each input. ``seeds``: inputs that are well formed.

    ``once_bytes``: the part of an input that occurs once, such as the size of its pieces and a connect.
    """

    run: Callable[[bytes], None]
    seeds: Sequence[bytes]
    once_bytes: int = 1

    def repeat(self, data: bytes, size_bytes: int) -> bytes:
        """An input of this size that repeats the content of ``data``."""
        once, content = data[: self.once_bytes], data[self.once_bytes :] or b"\0"
        return (once + content * (size_bytes // len(content) + 1))[:size_bytes]
