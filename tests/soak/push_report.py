"""What a campaign has shown of the receiver of remote write: its rows, and what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from soak import evidence
from soak.ledger import Books
from soak.push_judge import Difference, Findings, differences, identities, misjudged, untimely
from soak.push_line import PushLine
from soak.result import TOLD, Row, grouped
from support.remote_write_reader import read

#: Requests shown of one series.
SHOWN = 12


def received(findings: Findings | None) -> Mapping[str, int]:
    """Identity -> how many the receiver has."""
    return {} if findings is None else identities(findings.found)


def push_rows(findings: Findings, pushed: int, name: str) -> Iterable[Row]:
    """Yield the rows of the table.

    :param pushed: number of requests.
    :param name: of the receiver.
    """
    group, wrong = f"receiver {name}", differences(findings.record, findings.found)
    yield group, "requests", grouped(pushed)
    yield group, "events in the daemon's log", grouped(sum(map(len, findings.record.values())))
    yield group, "samples, each at its millisecond and with its value", grouped(_equal(findings, wrong))
    yield group, "missing", grouped(sum(max(0, each.wanted - each.found) for each in wrong))
    yield group, "too often, or never sent", grouped(sum(max(0, each.found - each.wanted) for each in wrong))
    yield group, "series that have not ended", grouped(findings.visible)
    audit = findings.audit
    yield group, "`oneshotctl audit`: events delivered", grouped(int(audit.get("events") or 0))
    yield group, "`oneshotctl audit`: events found", grouped(int(audit.get("found") or 0))
    yield group, "`oneshotctl audit`: series that differ", grouped(len(audit.get("differences") or ()))


def _equal(findings: Findings, wrong: Sequence[Difference]) -> int:
    there = sum(map(len, findings.found.values()))
    return there - sum(max(0, each.found - each.wanted) for each in wrong)


def push_faults(
    books: Books,
    expected: Mapping[str, int],
    findings: Findings | None,
    line: PushLine,
    since: float,
) -> Iterable[str]:
    """Yield all that is wrong with the receiver, with what led there.

    :param expected: identity -> how many there have to be (`Books.expected`).
    :param since: monotonic seconds of the campaign's beginning.
    """
    if findings is None:
        yield "nobody has looked at what the receiver has"
        return
    if not findings.found:
        yield "nothing was pushed: the receiver has no sample"
    wrong = differences(findings.record, findings.found)
    for what, found in (
        ("missing", [each for each in wrong if each.found < each.wanted]),
        ("too often, or never sent", [each for each in wrong if each.found > each.wanted]),
    ):
        if found:
            yield f"receiver: {what}: {len(found)} samples"
        for each in found[:TOLD]:
            yield f"receiver: {each.text()}" + "".join(
                f"\n    {text}" for text in _requests(each, line, since)
            )
    over = Counter(received(findings))
    over.subtract(expected)
    unlike = {identity: number for identity, number in over.items() if number}
    if unlike:
        yield f"receiver: other numbers than were sent: {len(unlike)} kinds"
    for identity, number in list(unlike.items())[:TOLD]:
        sendings = [sending for sending in books.sendings if identity in sending.amounts]
        told = "; ".join(evidence.sent(sending, since) for sending in sendings) or "never sent"
        yield f"receiver: {identity}: {number:+d}, expected {expected.get(identity, 0)}: {told}"
    if findings.wall is not None:
        late = untimely(findings.found, books.sendings, findings.wall)
        yield from (f"receiver: {text}" for text in late[:TOLD])
    if findings.visible:
        yield f"receiver: {findings.visible} series have not ended"
    yield from misjudged(findings)


def _requests(difference: Difference, line: PushLine, since: float) -> Iterable[str]:
    """Yield the requests with a sample of the series, as the line saw them."""
    labels = tuple(sorted(difference.series))
    shown = 0
    for pushed in line.pushed:
        for series in read(pushed.body):
            if tuple(sorted(series.labels)) == labels and shown < SHOWN:
                shown += 1
                ended = "never" if pushed.ended is None else f"{pushed.ended - since:.3f}"
                yield (
                    f"{pushed.asked - since:.3f}: its samples {[at for _, at in series.samples]};"
                    f" {pushed.fault or 'no fault'}, answer {pushed.status or 'none'}, passed on {ended}"
                )
