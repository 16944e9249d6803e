"""Search by halves for the sample that makes a scraper reset its responses.

A scraper that cannot parse one line discards the whole response. If it does so before it has read to
the end, the connection is reset with bytes unread. Large responses are made smaller first, by
`oneshotd.delivery.response_size`. After `RESETS` such responses in a row, the last with `LARGEST` samples
at most, all samples of that last response are *suspects*, and each further response takes one of two
turns:

=====  ==========================  ===================================  =======================
turn   shows                       reset                                taken
=====  ==========================  ===================================  =======================
PLAIN  all but the suspects, and   from the third in a row on: its      the scraper takes
       what is behind them in      samples become suspects, too         responses: TEST may follow
       their series
TEST   suspects only: half of the  several: one of them is refused, the  they are delivered, and
       smallest lot that holds a   next test shows half of them; one     suspects no more
       refused one, else all       alone: a strike
=====  ==========================  ===================================  =======================

After a reset the next turn is PLAIN, until one is taken. So between two strikes of a sample there is
always a response that was taken. A reset of a PLAIN turn cancels all strikes: the scraper resets other
responses, too. A sample is *refused* after `STRIKES` strikes, once other samples were delivered since it
became a suspect (unless it blocks all others). The plan of the next PLAIN turn passes over the events
of a refused sample, as lost; later events of its series wait until that plan is delivered, so that
they cannot prevent its delivery.

Invariants:

* A suspect is shown with exactly the events that it was shown with before, or not at all.
* No event is shown while an earlier one of its series is a suspect outside the response.
* A suspect is cleared if the pending events lack one of its events because the log has deleted it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Container, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from attrs import define, evolve, field, frozen

from oneshotd.core.events import Pending
from oneshotd.core.exposition import STAMP_SIZE, line_size
from oneshotd.core.sampling.plan import COUNT, Caps, Plan, ResponseBudget, readable

#: Reason of a loss: the scraper refuses the sample.
REFUSED = "refused by scraper"

#: Consecutive reset responses after which their samples are suspects. Fewer may be restarts.
RESETS = 3

#: The largest response, in samples, whose samples become suspects.
LARGEST = 500

#: Times that the scraper resets a response with this sample alone before it is refused.
STRIKES = 3


class Shown(NamedTuple):
    """One sample as a response showed it.

    :param seqs: of its events, ascending.
    """

    series: str
    seqs: tuple[int, ...]


@define
class _Suspect:
    """A sample that the scraper may refuse.

    :ivar delivered_before: events delivered to the scraper before it became a suspect.
    """

    sample: Shown
    delivered_before: int
    strikes: int = 0


@frozen(kw_only=True)
class Turn:
    """The events from which one response is planned.

    :param pending: the events that may be in it.
    :param caps: for the planner.
    :param tests: the response shows suspects only.
    :param left_out: seqs beyond the cursor that may not be in the response; ascending.
    :param refused: seqs that are lost once the response is delivered.
    :param refused_series: of the first of them.
    :param is_blocked: so many events wait for suspects that no other one can be shown.
    """

    pending: Pending
    caps: Caps
    tests: bool = False
    left_out: Sequence[int] = ()
    refused: Sequence[int] = ()
    refused_series: str = ""
    is_blocked: bool = False

    def complete(self, planned: Plan) -> Plan:
        """Add the events that were left out to the plan, as owed or lost."""
        newly_owed = [seq for seq in self.left_out if seq <= planned.cursor]
        lost = [seq for seq in self.refused if seq <= planned.cursor]
        if newly_owed:
            planned = evolve(planned, newly_owed=sorted([*planned.newly_owed, *newly_owed]))
        if not lost:
            return planned
        return evolve(
            planned,
            lost={**planned.lost, REFUSED: lost},
            lost_series={**planned.lost_series, REFUSED: self.refused_series},
        )

    def shown(self, planned: Plan) -> list[Shown]:
        """Return the samples of the completed plan."""
        pending = self.pending
        owed = set(pending.seqs[: pending.owed]).difference(planned.went_out)
        waiting = owed.union(planned.newly_owed, *planned.lost.values())
        rows = [
            (series, seq)
            for series, seq in zip(pending.series, pending.seqs, strict=True)
            if seq not in waiting and seq <= planned.cursor
        ]
        if len(rows) == len(planned.samples):
            return [Shown(series, (seq,)) for series, seq in rows]
        by_series: dict[str, list[int]] = {}
        for series, seq in rows:
            by_series.setdefault(series, []).append(seq)
        return [Shown(series, tuple(seqs)) for series, seqs in by_series.items()]


@define
class Search:
    """The search in the responses to one scraper; in memory only.

    For each response: `choose`, plan it, `sent`; then `was_reset` if the scraper reset the connection
    before reading it, `was_taken` if its delivery is final, neither if it ended in another way.
    """

    _suspects: list[_Suspect] = field(factory=list, init=False)
    _refused: list[Shown] = field(factory=list, init=False)
    _resets: int = field(default=0, init=False)  # of PLAIN turns, in a row
    _takes: bool = field(default=False, init=False)  # a PLAIN turn was taken since the last reset
    _tested: bool = field(default=False, init=False)  # the last turn was a TEST
    _lot: int = field(default=0, init=False)  # so many of the first suspects hold a refused one
    _delivered: int = field(default=0, init=False)  # events, since the search began
    _blocked: bool = field(default=False, init=False)  # see Turn.is_blocked; of the last PLAIN turn
    _turn: Turn = field(default=Turn(pending=Pending(), caps=Caps()), init=False)
    _shown: list[Shown] = field(factory=list, init=False)

    @property
    def is_over(self) -> bool:
        """Whether there are no suspects, and no resets, any more."""
        return not (self._resets or self._suspects or self._refused)

    @property
    def suspects(self) -> int:
        """Return the number of samples that wait because they may be refused."""
        return len(self._suspects)

    def choose(self, pending: Pending, caps: Caps, *, several: bool) -> Turn:
        """Return the turn of the next response; changes nothing.

        :param several: the response may have several samples of a series.
        """
        if not self._suspects and not self._refused:
            return Turn(pending=pending, caps=caps)
        plain = self._plain(pending, caps)
        if self._takes and not (self._tested and len(plain.pending)):
            tested = self._test(pending, caps, several)
            return tested or plain
        return plain

    def sent(self, turn: Turn, planned: Plan) -> None:
        """Note the response that is in flight.

        :param planned: its completed plan.
        """
        self._turn, self._shown = turn, turn.shown(planned)

    def forget(self, pending: Pending) -> None:
        """Clear suspects whose events are no longer pending."""
        present = set(pending.seqs)
        read_to = pending.end
        if pending.owed < pending.owed_total:
            read_to = pending.seqs[pending.owed - 1] if pending.owed else 0

        def is_whole(sample: Shown) -> bool:
            return all(seq in present or seq > read_to for seq in sample.seqs)

        self._keep(lambda suspect: is_whole(suspect.sample))
        self._refused = [sample for sample in self._refused if is_whole(sample)]

    def was_reset(self) -> None:
        """Note that the scraper reset the connection before reading the response."""
        self._takes = False
        self._tested = self._turn.tests
        if self._tested:
            self._narrow()
            return
        self._resets += 1
        for suspect in self._suspects:
            suspect.strikes = 0  # the scraper resets responses without suspects, too
        if self._resets >= RESETS and len(self._shown) <= LARGEST:
            if not self._suspects:
                self._lot = len(self._shown)
            self._suspects += [_Suspect(sample, self._delivered) for sample in self._shown]

    def was_taken(self) -> None:
        """Note that the delivery of the response is final."""
        shown = set(self._shown)
        self._tested = self._turn.tests
        self._delivered += sum(len(sample.seqs) for sample in shown)
        if self._tested:
            self._lot = max(0, self._lot - len(shown))
            self._keep(lambda suspect: suspect.sample not in shown)
        else:
            self._resets, self._takes, self._blocked = 0, True, self._turn.is_blocked

    def _narrow(self) -> None:
        shown = set(self._shown)
        known = {suspect.sample: suspect for suspect in self._suspects}
        lot = [known.get(sample) or _Suspect(sample, self._delivered) for sample in self._shown]
        events = {seq for sample in shown for seq in sample.seqs}
        self._keep(lambda suspect: events.isdisjoint(suspect.sample.seqs))
        if len(lot) != 1:
            self._suspects[:0], self._lot = lot, len(lot)
            return
        [suspect] = lot
        suspect.strikes += 1
        self._lot = 0
        proven = self._delivered > suspect.delivered_before or self._blocked
        if suspect.strikes >= STRIKES and proven:
            self._refused.append(suspect.sample)
        else:
            self._suspects += lot

    def _keep(self, wanted: Callable[[_Suspect], bool]) -> None:
        self._suspects = [suspect for suspect in self._suspects if wanted(suspect)]
        self._lot = min(self._lot, len(self._suspects))

    # -- turns

    def _plain(self, pending: Pending, caps: Caps) -> Turn:
        first: dict[str, int] = {}  # series -> the event from which on it waits
        for series, seqs in chain((suspect.sample for suspect in self._suspects), self._refused):
            first[series] = min(seqs[0], first.get(series, seqs[0]))
        refused = {seq for sample in self._refused for seq in sample.seqs}
        suspect_events = {seq for suspect in self._suspects for seq in suspect.sample.seqs}
        rows: list[int] = []
        passed: list[int] = []
        left_out: list[int] = []
        waiting = 0
        for row in range(readable(pending)):
            seq = pending.seqs[row]
            if seq in refused:
                passed.append(row)
            elif first.get(pending.series[row], seq + 1) > seq:
                rows.append(row)
            else:
                # Suspects may be owed beyond the cap: other events must get past them.
                if seq not in suspect_events:
                    if row >= pending.owed and waiting >= caps.owed:
                        break
                    waiting += 1
                if row >= pending.owed:
                    left_out.append(seq)
        return Turn(
            pending=_part(pending, rows, passed),
            caps=evolve(caps, owed=max(0, caps.owed - waiting)),
            left_out=left_out,
            refused=[pending.seqs[row] for row in passed],
            refused_series=pending.series[passed[0]] if passed else "",
            is_blocked=not rows and waiting + len(suspect_events) >= caps.owed,
        )

    def _test(self, pending: Pending, caps: Caps, several: bool) -> Turn | None:
        """Return a test of the next suspects; None if none of them can be shown.

        A test may leave more events owed than the caps allow, as a suspect is not shown in part.
        """
        row_of = {pending.seqs[row]: row for row in range(readable(pending))}
        budget = ResponseBudget(caps)
        rows: list[int] = []
        for series, seqs in self._next(row_of, several):
            value = pending.values[row_of[seqs[0]]]
            fits = budget.take(series, line_size(series, value or COUNT) + STAMP_SIZE)
            if rows and not fits:
                break
            rows += [row_of[seq] for seq in seqs]
        if not rows:
            return None
        part = _part(pending, sorted(rows))
        shown = set(part.seqs)
        left_out = [seq for seq in pending.seqs[pending.owed :] if seq <= part.end and seq not in shown]
        return Turn(pending=part, caps=caps, tests=True, left_out=left_out)

    def _next(self, present: Container[int], several: bool) -> Iterator[Shown]:
        """Yield the samples of the next test, in the order of the search."""
        size = max(1, self._lot // 2) if self._lot else len(self._suspects)
        in_turn: dict[str, deque[_Suspect]] = {}
        for suspect in sorted(self._suspects, key=lambda suspect: suspect.sample.seqs):
            in_turn.setdefault(suspect.sample.series, deque()).append(suspect)
        chosen: set[str] = set()
        for suspect in self._suspects:
            series, seqs = suspect.sample
            if suspect is not in_turn[series][0] or not all(seq in present for seq in seqs):
                continue
            if chosen and (suspect.strikes or (series in chosen and not several)):
                continue
            in_turn[series].popleft()
            chosen.add(series)
            yield suspect.sample
            size -= 1
            if suspect.strikes or not size:
                return


def _part(pending: Pending, rows: Sequence[int], passed: Sequence[int] = ()) -> Pending:
    """Return some rows of the pending events, as if there were no others.

    :param rows: ascending.
    :param passed: further rows that the cursor may pass; ascending.
    """
    last = max(rows[-1] if rows else -1, passed[-1] if passed else -1)
    end = pending.seqs[last] if last >= pending.owed else pending.cursor
    if len(rows) + len(passed) == len(pending):
        end = pending.end
    owed = bisect_left(rows, pending.owed)
    return Pending(
        seqs=[pending.seqs[row] for row in rows],
        series=[pending.series[row] for row in rows],
        values=[pending.values[row] for row in rows],
        ats=[pending.ats[row] for row in rows],
        owed=owed,
        owed_total=owed,
        cursor=pending.cursor,
        end=end,
    )
