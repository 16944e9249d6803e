"""What several files of these tests are given."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.chromium import Chromium
from support.daemon import Daemon
from support.status_page import Door, busy_daemon


@pytest.fixture(scope="module", params=["open", "locked"])
def door(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Door:
    return Door(None) if request.param == "open" else Door.locked(tmp_path_factory.mktemp("door"))


#: Files that take long, the longest first.
LONG = (
    *("test_oldest_dependencies", "test_scrapers", "test_high_availability_page", "test_haproxy"),
    *("test_release_check", "test_web_config", "test_exactly_once", "test_grafana"),
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
