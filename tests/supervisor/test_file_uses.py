"""Uses of files that cannot be read at first."""

from __future__ import annotations

import pytest

from gateway.errors import ConfigurationError
from gateway.supervisor.file_uses import FileUses


class Use:
    """A use of a file, and the number of times that it was tried."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault = fault
        self.tried = 0

    def __call__(self) -> None:
        self.tried += 1
        if self.fault is not None:
            raise self.fault


@pytest.mark.parametrize("fault", [ConfigurationError("no token"), FileNotFoundError("none")])
def test_a_use_that_fails_is_repeated_until_it_succeeds_and_does_not_prevent_others(
    fault: Exception,
) -> None:
    broken, whole = Use(fault), Use()
    uses = FileUses()
    uses.begin([broken, whole])
    uses.look()
    assert (broken.tried, whole.tried) == (2, 1)
    broken.fault = None
    for _ in range(2):
        uses.look()
    assert broken.tried == 3


def test_those_of_an_older_configuration_are_not_repeated() -> None:
    older, newer = Use(ConfigurationError("no token")), Use()
    uses = FileUses()
    uses.begin([older])
    uses.begin([newer])
    uses.look()
    assert (older.tried, newer.tried) == (1, 1)
