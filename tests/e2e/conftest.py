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


@pytest.fixture(scope="module")
def browser(door: Door, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with door.browser(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture(scope="module")
def busy(door: Door, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with busy_daemon(tmp_path_factory.mktemp("busy"), door) as daemon:
        yield daemon
