"""What several files of these tests are given."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.chromium import Chromium
from support.daemon import Daemon
from support.status_page import busy_daemon


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with busy_daemon(tmp_path_factory.mktemp("busy")) as daemon:
        yield daemon
