"""What is printed of a violation: enough to find its cause from the output alone.

For an event that is missing, or came too often: its sending, the exchanges that carried it or must
have carried it, as the scraper saw them, and what the daemon's log says of the deliveries to that
scraper at the time. All times are seconds of the monotonic clock since the campaign's beginning,
the daemon's included.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from attrs import frozen
from soak.exchange import Exchange
from soak.ledger import ON_ITS_WAY, Books
from soak.sendings import Sending

#: Exchanges shown of one event, and lines of the daemon's log.
MOST_EXCHANGES, MOST_LINES = 12, 60

#: Seconds of the log around the exchanges that are shown: until the daemon's last word on them.
BEFORE, AFTER = 0.5, 3.0

_STEP = re.compile(
    r"(?P<scraper>\S+): delivery \d+ (?P<what>.+) at (?P<seconds>[0-9.]+): (?P<events>\d+) events"
)
_KERNEL = re.compile(r"a response ends in ")


@frozen(kw_only=True)
class Step:
    """A step of a delivery, from the daemon's log.

    :param at: monotonic seconds.
    :param what: the step.
    :param events: of the delivery.
    :param lines: the step, and what the kernel said before it.
    """

    scraper: str
    at: float
    what: str
    events: int
    lines: Sequence[str]

    @property
    def is_uncertain(self) -> bool:
        """Whether the events go out again, and may have been read."""
        return self.what.endswith("as uncertain")


def steps(log: str) -> list[Step]:
    """All steps of all deliveries in the daemon's log (level debug)."""
    found = []
    kernel: list[str] = []
    for line in log.splitlines():
        text = line.partition("] ")[2] or line
        if _KERNEL.search(text):
            kernel.append(text)
        elif step := _STEP.search(text):
            found.append(
                Step(
                    scraper=step["scraper"],
                    at=float(step["seconds"]),
                    what=step["what"],
                    events=int(step["events"]),
                    lines=(*kernel, text),
                )
            )
            kernel = []
    return found


def sent(sending: Sending, since: float) -> str:
    """A sending in one line."""
    parts = [f"{sending.door} began {sending.began - since:.3f}"]
    if sending.gone:
        parts.append(f"gone {sending.gone - since:.3f}")
    if sending.answered:
        parts.append(f"answered {sending.answered - since:.3f}")
    elif sending.refused:
        parts.append("refused")
    elif not sending.gone:
        parts.append("no answer")
    return " ".join(parts)


def datagram(books: Books, sending: Sending, since: float) -> str:
    """A datagram that is missing."""
    after = min((o.began for o in books.outages if o.began > sending.gone), default=None)
    before = max((o.ended for o in books.outages if o.ended < sending.began), default=since)
    pauses = ", ".join(
        f"{pause.began - since:.3f} to {pause.ended - since:.3f}"
        for pause in books.pauses
        if before <= pause.ended and pause.began <= sending.gone + ON_ITS_WAY
    )
    return (
        f"UDP: {len(sending.amounts)} series from {next(iter(sending.amounts))} on: {sent(sending, since)};"
        f" no outage since {before - since:.3f}, until"
        f" {'the end' if after is None else f'{after - since:.3f}'}; stopped: {pauses or 'never'}"
    )


def of(books: Books, identity: str, scraper: str, since: float, log: Sequence[Step] = ()) -> Iterable[str]:
    """All that is known of an event, line by line.

    :param since: monotonic seconds of the campaign's beginning.
    :param log: of `steps`.
    """
    sendings = [sending for sending in books.sendings if identity in sending.amounts]
    yield f"{scraper}: {identity}: " + "; ".join(sent(sending, since) for sending in sendings)
    shown = _exchanges(books, identity, scraper, sendings)
    for exchange in shown:
        mark = f"{exchange.amounts[identity]} of it" if identity in exchange.amounts else "without it"
        yield f"    {scraper} {mark}: {exchange.text(since)}; {_end_of(books, exchange.process, since)}"
    if shown:
        first = shown[0].asked - BEFORE
        last = max(exchange.ended or exchange.asked for exchange in shown) + shown[-1].timeout + AFTER
        lines = [
            f"    daemon {step.at - since:.3f}: {line}"
            for step in log
            if step.scraper == scraper and first <= step.at <= last
            for line in step.lines
        ]
        yield from lines[:MOST_LINES]
        if len(lines) > MOST_LINES:
            yield f"    daemon: … {len(lines) - MOST_LINES} lines more"


def _exchanges(books: Books, identity: str, scraper: str, sendings: Sequence[Sending]) -> Sequence[Exchange]:
    """Those that carried it and their neighbours; where none did, those after it was accepted."""
    exchanges = books.accounts[scraper].exchanges
    carried = [i for i, exchange in enumerate(exchanges) if identity in exchange.amounts]
    if carried:
        wanted = sorted({j for i in carried for j in (i - 1, i, i + 1) if 0 <= j < len(exchanges)})
        return [exchanges[i] for i in wanted][:MOST_EXCHANGES]
    began = min((sending.began for sending in sendings), default=0.0)
    return [exchange for exchange in exchanges if (exchange.ended or began) >= began][:MOST_EXCHANGES]


def _end_of(books: Books, process: str, since: float) -> str:
    at = books.ended.get(process)
    how = "ended in order" if process in books.in_order else "killed"
    if process == "?":
        return "process unknown"
    return f"{how} while starting" if at is None else f"{how} at {at - since:.3f}"
