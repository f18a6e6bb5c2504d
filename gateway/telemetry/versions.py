"""Versions of installed packages."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def version_of(package: str) -> str:
    """The version of an installed package; "unknown" if it is not installed, as in a checkout."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
