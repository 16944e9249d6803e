"""A store is opened by the kind of its address."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.thread_pump import Pump

from oneshotd.core.events import Group, NewEvent
from oneshotd.errors import StoreRefused
from oneshotd.store.clock import Clock
from oneshotd.store.factory import open_store
from oneshotd.store.interface import Stored
from oneshotd.store.limits import Limits


def test_a_file_is_opened(tmp_path: Path) -> None:
    """The daemon would not start."""
    pump, commits = Pump(), list[float]()
    place = str(tmp_path / "store")
    store = open_store("sqlite", place, pump, limits=Limits(), clock=Clock(), committed=commits.append)
    assert pump.get(store.append([Group(events=[NewEvent("a")])])) == [Stored(stored=1, first=1)]
    pump.get(store.close())
    assert commits


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    """Events would be kept somewhere else than the operator thinks."""
    with pytest.raises(StoreRefused, match="no store is of the kind 'mysql'"):
        open_store("mysql", str(tmp_path / "store"), Pump(), limits=Limits(), clock=Clock())
