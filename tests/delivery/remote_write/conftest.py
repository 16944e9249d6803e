"""The receivers' state machines on a real store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.receiver_driver import ReceiverDriver


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[ReceiverDriver]:
    made = ReceiverDriver(tmp_path / "store.sqlite")
    yield made
    made.stop()
