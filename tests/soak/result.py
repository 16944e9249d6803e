"""The result of a campaign: its table, what is wrong, and how both are told."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from attrs import frozen
from soak.ledger import DOORS, UDP, Books
from soak.senders import Sender
from soak.sendings import Sending

Row = tuple[str, str, str]

#: Histories of events that are told for one scraper and one kind of wrong.
TOLD = 10


@frozen(kw_only=True)
class Report:
    """A campaign's result.

    :param rows: of the table: group, what, figure.
    :param wrong: why the campaign has failed, empty if it has not.
    """

    rows: Sequence[Row]
    wrong: Sequence[str]

    def text(self) -> str:
        """The table for a terminal."""
        widths = [max(len(row[i]) for row in self.rows) for i in range(3)]
        lines = []
        group = ""
        for row in self.rows:
            shown = row[0] if row[0] != group else ""
            group = row[0]
            lines.append(f"{shown:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:>{widths[2]}}")
        return "\n".join(lines)

    def markdown(self) -> str:
        """The table for the documentation."""
        rows = [("", "what", "figure"), ("---", "---", "---:"), *self.rows]
        return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def complete(run: Callable[[], None], books: Books) -> None:
    """Run a campaign; if it breaks off, that is noted, and the books tell what led there."""
    try:
        run()
    except Exception as error:
        books.note_wrong(f"the campaign broke off: {type(error).__name__}: {error}")


def conclude(found: Report, folder: Path, left: str, *, markdown: Path | None, keep: bool) -> int:
    """Print a result; remove the folder if all was as promised. Return the exit status.

    :param left: what the folder has.
    :param markdown: the table is written there as well.
    :param keep: the folder stays in any case.
    """
    print(found.text())
    if markdown is not None:
        markdown.write_text(found.markdown())
    if not found.wrong:
        if keep:
            print(f"{left} are in {folder}")
        else:
            shutil.rmtree(folder)
        return 0
    print(f"\nNOT as promised; {left} are in {folder}", file=sys.stderr)
    for text in found.wrong[:100]:
        print(f"- {text}", file=sys.stderr)
    return 1


def sent_rows(
    books: Books, senders: Iterable[Sender], vanished: Sequence[Sending], udp_lost: str
) -> Iterable[Row]:
    """Yield the rows of what was sent.

    :param vanished: sendings that were not stored.
    :param udp_lost: how datagrams may be lost.
    """
    sendings = books.sendings
    for door in DOORS:
        yield "events sent", door, events_of(s for s in sendings if s.door == door)
    yield "requests", "repeated, with their key", grouped(sum(sender.retried for sender in senders))
    open_ = [s for s in sendings if s.answered is None and not s.refused and s.door != UDP]
    gone = [s for s in vanished if s.door != UDP]
    yield "uncertain", "events without an answer that were stored", events_of(set(open_) - set(gone))
    yield "uncertain", "events without an answer that were not stored", events_of(gone)
    yield "uncertain", f"UDP events lost {udp_lost}", events_of(s for s in vanished if s.door == UDP)
    yield "refused", "503, not stored", events_of(s for s in sendings if s.refused)


def silent_doors(books: Books) -> Iterable[str]:
    """Yield a text for each door through which nothing came: it has shown nothing."""
    for door in DOORS:
        arrived = any(
            account.total[identity]
            for sending in books.sendings
            if sending.door == door
            for identity in sending.amounts
            for account in books.accounts.values()
        )
        if not arrived:
            yield f"nothing was sent that arrived: {door}"


def events_of(sendings: Iterable[Sending]) -> str:
    """Return the number of events, for a table."""
    return grouped(sum(sending.events for sending in sendings))


def grouped(number: int) -> str:
    """Return a number with its digits in groups."""
    return f"{number:,}".replace(",", " ")
