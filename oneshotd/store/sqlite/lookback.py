"""Read the log backwards, newest first, one bounded page per job."""

from __future__ import annotations

from oneshotd.core.filters import Selection
from oneshotd.store.interface import LogPage
from oneshotd.store.log_page import collect_page
from oneshotd.store.sqlite import details
from oneshotd.store.sqlite.ledger import Ledger
from oneshotd.store.sqlite.segments import read_back, seq_before


def recent(ledger: Ledger, selection: Selection, before: int | None, limit: int) -> LogPage:
    """Read one page; see `IStore.recent`."""
    ledger.flush()
    end = ledger.head if before is None else min(before - 1, ledger.head)
    if selection.until is not None:
        accepted_before = seq_before(
            ledger.connection, selection.until, ledger.pruned, ledger.head, "clock_at"
        )
        end = min(end, accepted_before)
    return collect_page(
        read_back(ledger.connection, end),
        selection,
        limit,
        pruned=ledger.pruned,
        detail_of=details.reader(ledger.connection, end),
    )
