"""What several files of these tests are given."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator

import pytest
from support.chromium import Chromium
from support.daemon import REPOSITORY, Daemon
from support.status_page import Door, busy_daemon


@pytest.fixture(scope="module", params=["open", "locked"])
def door(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Door:
    return Door(None) if request.param == "open" else Door.locked(tmp_path_factory.mktemp("door"))


AXE = "axe-core@4.14.1"

#: Files that take more than half a minute, the longest first.
LONG = (
    *("test_oldest_dependencies", "test_audit_pushed", "test_receivers", "test_clock_steps", "test_scrapers"),
    *("test_disk", "test_alertmanager", "test_status_page", "test_scrape_limits", "test_recipes_logs"),
    *("test_high_availability_page", "test_web_config", "test_identity", "test_grafana", "test_mode_change"),
    *("test_daemon_metrics", "test_sdist", "test_sizes", "test_postgresql_delivery", "test_security_docs"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long files: one that is begun last runs alone at the end."""

    def rank(item: pytest.Item) -> int:
        return LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG)

    items.sort(key=rank)


@pytest.fixture(scope="module")
def browser(door: Door, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with door.browser(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture(scope="module")
def busy(door: Door, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with busy_daemon(tmp_path_factory.mktemp("busy"), door) as daemon:
        yield daemon


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of the accessibility checker, from npm."""
    cache = REPOSITORY / ".cache" / "npm"
    cache.mkdir(parents=True, exist_ok=True)
    packed = cache / f"{AXE.replace('@', '-')}.tgz"
    if not packed.exists():
        npm = shutil.which("npm")
        if npm is None and not os.environ.get("CI"):
            pytest.skip("axe-core comes from npm, and there is none here")
        assert npm is not None, "axe-core comes from npm, and there is none here"
        subprocess.run(
            [npm, "pack", "--silent", AXE], cwd=cache, check=True, timeout=120, capture_output=True
        )
    with tarfile.open(packed) as archive:
        script = archive.extractfile("package/axe.min.js")
        assert script is not None
        return script.read().decode("utf-8")
