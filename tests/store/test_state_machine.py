"""Whatever happens in whatever order, each scraper gets each event once, or the loss is counted.

Hypothesis does to a store what clients, scrapers, clocks and disks do, and compares each answer
and all figures with `support.store_model`. If this fails, events were lost, doubled, out of order or
miscounted; what it prints is the shortest way to that which was found.

ONESHOTD_EXAMPLES raises the number of runs for a long campaign.
"""

from __future__ import annotations

import pytest
from support.failing_connection import FrailSQLite
from support.store_machine import run_machine

from oneshotd.store.sqlite import segments


def test_the_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT_EVENTS", 3)  # so that a commit has several of them
    run_machine(FrailSQLite, 60)
