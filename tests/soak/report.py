"""What a campaign has shown: one table, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from soak import evidence
from soak.campaign import Campaign
from soak.ledger import REFUSED, UDP, Books, Verdict
from soak.marks import Reading
from soak.plan import KILLS, PUSH_KILLS, STARTING
from soak.push_report import push_faults, push_rows, received
from soak.receiver import RECEIVER
from soak.result import TOLD, Report, Row, grouped, sent_rows, silent_doors
from soak.scraper import CUTS, SCRAPERS


def report(campaign: Campaign) -> Report:
    """Hold the books of a finished campaign against the promise."""
    books = campaign.books
    log = evidence.steps(campaign.daemon.process.log_text())
    for step in log:
        if step.is_uncertain and step.scraper in books.uncertain:
            books.uncertain[step.scraper].append(step.events)
    expected, vanished = books.expected(received(campaign.findings))
    verdicts = {name: books.verdict(name, expected) for name in SCRAPERS}
    wrong = [
        *books.wrong,
        *_disagreements(campaign, verdicts, log),
        *_miscounts(campaign, verdicts, log),
        *(evidence.datagram(books, s, campaign.began) for s in books.unexplained(vanished)[:TOLD]),
        *_omissions(campaign),
        *_pushed_wrong(campaign, expected),
    ]
    slowest = {name: _slowest(books, name) for name in SCRAPERS}
    rows: list[Row] = [
        ("campaign", "seed", str(campaign.settings.seed)),
        ("campaign", "duration", f"{campaign.seconds:.0f} s"),
        ("campaign", "kill rounds", grouped(campaign.kills)),
        *sent_rows(books, campaign.senders, vanished, "on their way, at a kill or with no daemon"),
        *(("faults injected", kind, grouped(count)) for kind, count in sorted(books.faults.items())),
        *_read(books, verdicts),
        *_pushed(campaign),
        *(
            (
                "latency",
                f"longest time to delivery to {name}, outages and pauses included",
                f"{seconds:.1f} s",
            )
            for name, seconds in slowest.items()
        ),
        ("result", "violations", grouped(len(wrong))),
    ]
    return Report(rows=rows, wrong=wrong)


def _pushed(campaign: Campaign) -> Iterable[Row]:
    if campaign.receiver is None:
        yield f"receiver {RECEIVER}", "requests", "none: there was no receiver"
    if campaign.receiver is not None and campaign.findings is not None:
        yield from push_rows(campaign.findings, len(campaign.receiver.line.pushed), RECEIVER)


def _pushed_wrong(campaign: Campaign, expected: Mapping[str, int]) -> Iterable[str]:
    if campaign.receiver is not None:
        line = campaign.receiver.line
        yield from push_faults(campaign.books, expected, campaign.findings, line, campaign.began)


def _read(books: Books, verdicts: Mapping[str, Verdict]) -> Iterable[Row]:
    for name, verdict in verdicts.items():
        group = f"scraper {name}"
        yield group, "events read", grouped(books.accounts[name].total.total())
        yield group, "lost, not allowed", grouped(sum(verdict.lost.values()))
        yield group, "doubled, not allowed", grouped(sum(verdict.doubled.values()))
        again = [(reading, reading.events) for reading in verdict.again]
        yield (
            group,
            "doubled, allowed: deliveries whose settlement was not on disk at the kill",
            _deliveries(again),
        )
        yield (
            group,
            "lost, allowed: deliveries thrown away unread as the daemon was killed",
            _deliveries(verdict.gone),
        )
        yield (
            group,
            "lost, allowed: deliveries thrown away unread a second after the timeout",
            _deliveries(verdict.late),
        )
        uncertain = [(reading, reading.events) for reading in verdict.uncertain]
        yield (
            group,
            "doubled, allowed: deliveries that the daemon counts as uncertain",
            _deliveries(uncertain),
        )
        if name in books.refusing:
            yield group, "lost, allowed: events that the scraper refuses", grouped(len(verdict.refused))
            counted = books.losses.get((name, REFUSED), 0)
            yield group, f"of these, counted by the daemon as `{REFUSED}`", grouped(counted)


def _disagreements(
    campaign: Campaign, verdicts: Mapping[str, Verdict], log: Sequence[evidence.Step]
) -> Iterable[str]:
    for name, verdict in verdicts.items():
        for what, identities in (("lost", verdict.lost), ("doubled", verdict.doubled)):
            if identities:
                yield f"{name}: {what}: {sum(identities.values())} events, {len(identities)} kinds"
            for identity in list(identities)[:TOLD]:
                told = evidence.of(campaign.books, identity, name, campaign.began, log)
                yield f"{what}: " + "\n".join(told)


def _miscounts(
    campaign: Campaign, verdicts: Mapping[str, Verdict], log: Sequence[evidence.Step]
) -> Iterable[str]:
    """Losses that the daemon counts and should not, or should and does not."""
    books = campaign.books
    for (name, reason), events in books.losses.items():
        if name not in books.refusing or reason != REFUSED:
            yield f"counted as lost: {name}, {reason}: {events} events"
    for name in sorted(books.refusing):
        verdict, counted = verdicts[name], books.losses.get((name, REFUSED), 0)
        if len(verdict.refused) - len(verdict.uncounted) <= counted <= len(verdict.refused):
            continue
        yield (
            f"{name}: {len(verdict.refused)} events are missing that it refuses, {len(verdict.uncounted)} of"
            f" them in deliveries that may be missing; counted as refused by the daemon: {counted}"
        )
        for identity in verdict.refused[:TOLD]:
            yield "refused: " + "\n".join(evidence.of(books, identity, name, campaign.began, log))


def _omissions(campaign: Campaign) -> Iterable[str]:
    """A campaign in which nothing happened has shown nothing."""
    books, settings = campaign.books, campaign.settings
    if not campaign.kills:
        yield "nothing was injected: there was no kill"
    if campaign.kills < settings.rounds:
        yield f"only {campaign.kills} of {settings.rounds} kills were done in the time"
    yield from silent_doors(books)
    kinds = len(KILLS) + (0 if campaign.receiver is None else len(PUSH_KILLS))
    if campaign.kills > kinds + KILLS.count(STARTING):  # enough for each kind to have its turn
        yield from (f"never injected: {kind}" for kind in (*campaign.kinds, *CUTS) if not books.faults[kind])


def _slowest(books: Books, scraper: str) -> float:
    """Seconds from acceptance (UDP: sending) to the end of the first response with the event."""
    first = books.accounts[scraper].first_read
    return max(
        (
            first[identity] - (sending.answered or sending.began)
            for sending in books.sendings
            if sending.answered is not None or sending.door == UDP
            for identity in sending.amounts
            if identity in first
        ),
        default=0.0,
    )


def _deliveries(readings: Sequence[tuple[Reading, int]]) -> str:
    return f"{grouped(len(readings))} ({grouped(sum(events for _, events in readings))} events)"
