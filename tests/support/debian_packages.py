"""Debian packages for tests, from `tools/debian_archive.py`: a test that needs one is skipped where
there is no apt. Where ``CI`` is set it fails instead.

    prometheus = fetch("prometheus") / "usr/bin/prometheus"
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tools import debian_archive
from tools.debian_archive import (
    KEYRING,
    REPOSITORY,
    NoPackageTools,
    PackageUnavailable,
    cache_folder,
    mirror,
    security_mirror,
)

__all__ = [
    "KEYRING",
    "REPOSITORY",
    "PackageUnavailable",
    "cache_folder",
    "fetch",
    "fetch_with_libraries",
    "mirror",
    "security_mirror",
]


def fetch(package: str, suite: str | None = None) -> Path:
    """Call `debian_archive.fetch`; skip the test if the package is unavailable."""
    with _skipped_without_tools():
        return debian_archive.fetch(package, suite)


def fetch_with_libraries(package: str, suite: str | None = None) -> Path:
    """Call `debian_archive.fetch_with_libraries`; skip the test if a package is unavailable."""
    with _skipped_without_tools():
        return debian_archive.fetch_with_libraries(package, suite)


@contextmanager
def _skipped_without_tools() -> Iterator[None]:
    try:
        yield
    except NoPackageTools as reason:
        if os.environ.get("CI"):
            pytest.fail(str(reason), pytrace=False)
        pytest.skip(str(reason))
