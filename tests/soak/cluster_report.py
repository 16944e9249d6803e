"""What a cluster campaign has shown: one table, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from soak.cluster_actors import CLUSTER_SCRAPERS
from soak.cluster_campaign import ClusterCampaign
from soak.cluster_deliveries import Delivery, deliveries
from soak.cluster_judge import LATE, REASONS, Judge, Judgement, uncounted
from soak.cluster_plan import PROMOTIONS, STOPPED_LONG
from soak.evidence import sent
from soak.push_report import push_faults, push_rows, received
from soak.receiver import RECEIVER
from soak.result import TOLD, Report, Row, grouped, sent_rows, silent_doors
from soak.sendings import Sending

#: Log lines of level error that are expected: the database was away, also as a daemon started or stopped, or
#: a daemon was held up beyond its lease.
EXPECTED_ERRORS = (
    "cannot start: cannot open the PostgreSQL store",
    "the database cannot be used",
    "did not finish within",
    "they were delivered after the lease",
    "that was known after the lease",
)
_FAULTS = ("Traceback", "Unhandled", "[critical", "#critical", "#error")


def report(campaign: ClusterCampaign) -> Report:
    """Hold the books of a finished campaign against the promise."""
    books = campaign.books
    lives = [life for daemon in campaign.daemons for life in daemon.all_lives()]
    given = deliveries(lives, ((daemon.name, daemon.log()) for daemon in campaign.daemons))
    expected, vanished = books.expected(received(campaign.findings))
    first: dict[str, float] = {}
    for sending in books.sendings:
        for identity in sending.amounts:
            first.setdefault(identity, sending.began)
    judge = Judge(
        margin=campaign.settings.sure_margin,
        began=campaign.began,
        sent=first,
        lives=lives,
        troubles=books.troubles,
        balancer_deaths=books.balancer_deaths,
    )
    of = {name: [each for each in given if each.scraper == name] for name in CLUSTER_SCRAPERS}
    judged = {
        name: judge.judge(expected, books.accounts[name].exchanges, of[name]) for name in CLUSTER_SCRAPERS
    }
    wrong = [
        *books.wrong,
        *(text for name in judged for text in _disagreements(campaign, name, judged[name], of[name])),
        *_miscounts(campaign, of),
        *(
            f"UDP: {len(s.amounts)} series from {next(iter(s.amounts))} on: {sent(s, campaign.began)}"
            for s in _unexplained(campaign, vanished)[:TOLD]
        ),
        *_omissions(campaign),
        *_errors(campaign),
        *_pushed_wrong(campaign, expected),
    ]
    rows: list[Row] = [
        ("campaign", "seed", str(campaign.settings.seed)),
        ("campaign", "duration", f"{campaign.seconds:.0f} s"),
        ("campaign", "faults", grouped(campaign.done)),
        ("campaign", "of these, promotions", grouped(_count(campaign, PROMOTIONS))),
        (
            "campaign",
            "of these, daemons stopped beyond their lease",
            grouped(_count(campaign, [STOPPED_LONG])),
        ),
        *sent_rows(books, campaign.senders, vanished, "in trouble"),
        *(("faults injected", kind, grouped(count)) for kind, count in sorted(books.faults.items())),
        *(row for name, each in judged.items() for row in _read(campaign, name, each)),
        *_pushed(campaign),
        ("result", "violations", grouped(len(wrong))),
    ]
    return Report(rows=rows, wrong=wrong)


def _pushed(campaign: ClusterCampaign) -> Iterable[Row]:
    if campaign.receiver is None:
        yield f"receiver {RECEIVER}", "requests", "none: there was no receiver"
    if campaign.receiver is not None and campaign.findings is not None:
        yield from push_rows(campaign.findings, len(campaign.receiver.line.pushed), RECEIVER)
        yield (
            f"receiver {RECEIVER}",
            "counted as superseded by the daemons",
            grouped(campaign.books.superseded.get(RECEIVER, 0)),
        )


def _pushed_wrong(campaign: ClusterCampaign, expected: Mapping[str, int]) -> Iterable[str]:
    if campaign.receiver is not None:
        line = campaign.receiver.line
        yield from push_faults(campaign.books, expected, campaign.findings, line, campaign.began)


def _read(campaign: ClusterCampaign, name: str, judged: Judgement) -> Iterable[Row]:
    group, account = f"scraper {name}", campaign.books.accounts[name]
    yield group, "events read", grouped(account.total.total())
    doors = sorted({exchange.door for exchange in account.exchanges if exchange.outcome == "read"})
    for door in doors:
        count = sum(e.door == door and e.outcome == "read" for e in account.exchanges)
        yield group, f"responses read from {door}", grouped(count)
    yield group, "lost, not allowed", grouped(judged.lost.total())
    yield group, "doubled, not allowed", grouped(judged.doubled.total())
    for reason in REASONS:
        each = judged.allowed.get(reason, [])
        yield group, reason, f"{grouped(len(each))} ({grouped(sum(n for _, n in each))} events)"
    yield group, f"counted as `{LATE}` by the daemons", grouped(campaign.books.losses.get((name, LATE), 0))
    yield group, "counted as superseded by the daemons", grouped(campaign.books.superseded.get(name, 0))
    yield group, "longest time without an answer", f"{_longest_silence(campaign, name):.1f} s"


def _longest_silence(campaign: ClusterCampaign, name: str) -> float:
    times = [e.ended for e in campaign.books.accounts[name].exchanges if e.outcome == "read" and e.ended]
    return max((b - a for a, b in pairwise(times)), default=0.0)


def _disagreements(
    campaign: ClusterCampaign, name: str, judged: Judgement, given: Sequence[Delivery]
) -> Iterable[str]:
    yield from (f"{name}: {text}" for text in judged.wrong[:TOLD])
    if len(judged.wrong) > TOLD:
        yield f"{name}: … {len(judged.wrong) - TOLD} more"
    for what, identities in (("lost", judged.lost), ("doubled", judged.doubled)):
        if identities:
            yield f"{name}: {what}: {identities.total()} events, {len(identities)} kinds"
        for identity in list(identities)[:TOLD]:
            yield f"{what}: " + "\n".join(_history(campaign, name, identity, given))


def _history(campaign: ClusterCampaign, name: str, identity: str, given: Sequence[Delivery]) -> Iterable[str]:
    """Tell all that is known of an event, line by line."""
    books, since = campaign.books, campaign.began
    sendings = [sending for sending in books.sendings if identity in sending.amounts]
    yield f"{name}: {identity}: " + "; ".join(sent(sending, since) for sending in sendings)
    exchanges = books.accounts[name].exchanges
    of = {id(each.exchange): each for each in given}
    carried = [i for i, exchange in enumerate(exchanges) if identity in exchange.amounts]
    if not carried:
        after = sendings[0].began if sendings else 0.0
        carried = [i for i, exchange in enumerate(exchanges) if exchange.asked >= after][:3]
    near = {j for i in carried for j in (i - 1, i, i + 1) if 0 <= j < len(exchanges)}
    for i in sorted(near)[:12]:
        yield f"    {name}: {exchanges[i].text(since)}"
        if id(exchanges[i]) in of:
            yield f"        {of[id(exchanges[i])].text(since)}"
    times = [(t.began - since, t.ended - since) for t in books.troubles]
    if sendings:
        began = sendings[0].began - since
        then = [f"{a:.1f} to {b:.1f}" for a, b in times if a - 5 <= began <= b + 30]
        yield f"    trouble of the database: {', '.join(then) or 'none'}"


def _miscounts(campaign: ClusterCampaign, of: Mapping[str, Sequence[Delivery]]) -> Iterable[str]:
    losses = campaign.books.losses
    for (name, reason), events in losses.items():
        if reason != LATE:
            yield f"counted as lost: {name}, {reason}: {events} events"
    for name, given in of.items():
        superseded = campaign.books.superseded.get(name, 0)
        for what, counted in (("revoked", losses.get((name, LATE), 0)), ("delivered", superseded)):
            if text := uncounted(given, what, counted):
                yield f"{name}: {text}"


def _unexplained(campaign: ClusterCampaign, vanished: Sequence[Sending]) -> list[Sending]:
    return campaign.books.missing_datagrams(list(vanished))


def _omissions(campaign: ClusterCampaign) -> Iterable[str]:
    """A campaign in which nothing happened has shown nothing."""
    books, settings = campaign.books, campaign.settings
    for what, count, least in (
        ("faults", campaign.done, settings.faults),
        ("promotions", _count(campaign, PROMOTIONS), settings.promotions),
        ("stops beyond a lease", _count(campaign, [STOPPED_LONG]), settings.pauses),
    ):
        if count < least:
            yield f"only {count} of {least} {what} were done in the time"
    yield from silent_doors(books)


def _errors(campaign: ClusterCampaign) -> Iterable[str]:
    for daemon in campaign.daemons:
        lines = daemon.log().splitlines()
        found = [
            i
            for i, line in enumerate(lines)
            if any(mark in line for mark in _FAULTS) and not any(text in line for text in EXPECTED_ERRORS)
        ]
        for i in found[:TOLD]:
            yield f"the log of {daemon.name}: " + "\n    ".join(lines[max(0, i - 1) : i + 30])


def _count(campaign: ClusterCampaign, kinds: Sequence[str]) -> int:
    return sum(campaign.books.faults[kind] for kind in kinds)
