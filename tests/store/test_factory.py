"""A store is opened by the kind of its address."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.thread_pump import ThreadPump

from oneshotd.core.events import Group, NewEvent
from oneshotd.errors import StoreRefused
from oneshotd.store.clock import Clock
from oneshotd.store.factory import open_store
from oneshotd.store.interface import Stored
from oneshotd.store.limits import Limits

ROOT = Path(__file__).resolve().parents[2]


def test_a_file_is_opened(tmp_path: Path) -> None:
    """The daemon would not start."""
    pump, commits = ThreadPump(), list[float]()
    place = str(tmp_path / "store")
    store = open_store("sqlite", place, pump, limits=Limits(), clock=Clock(), committed=commits.append)
    assert pump.get(store.append([Group(events=[NewEvent("a")])])) == [Stored(stored=1, first=1)]
    pump.get(store.close())
    assert commits


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    """Events would be kept somewhere else than the operator thinks."""
    with pytest.raises(StoreRefused, match="no store is of the kind 'mysql'"):
        open_store("mysql", str(tmp_path / "store"), ThreadPump(), limits=Limits(), clock=Clock())


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator would search what ImportError means."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreRefused, match=r"package psycopg: pip install 'oneshotd\[postgresql\]'"):
        open_store("postgresql", "service=none", ThreadPump(), limits=Limits(), clock=Clock())


def test_the_factory_does_not_import_what_postgresql_needs() -> None:
    """A daemon with a file would start more slowly, or not at all where psycopg is not installed."""
    code = (
        "import sys, oneshotd.store.factory;"
        "print([name for name in sys.modules if 'psycopg' in name or 'postgresql' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"
