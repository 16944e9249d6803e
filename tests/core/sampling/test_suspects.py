"""The search for a refused sample: logarithmic, exact, and without delay for other samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from math import log2

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from oneshotd.core.events import Event, Pending, Sample
from oneshotd.core.sampling.mode import NO_HISTORY, plan_next
from oneshotd.core.sampling.plan import Caps, Plan
from oneshotd.core.sampling.suspects import LARGEST, REFUSED, RESETS, STRIKES, Search
from oneshotd.core.scraper_features import Timestamps

#: Scrapes after which a search in a test has failed.
ENDLESS = 600

NOW = 1_700_000_000_000


class Scraper:
    """A scraper that resets a response with certain samples in it, and its side of the log.

    :param refuses: whether it cannot take a sample.
    """

    def __init__(
        self,
        refuses: Callable[[Sample], bool] = lambda sample: sample.series.startswith("bad"),
        caps: Caps | None = None,
        mode: Timestamps = Timestamps.SCRAPE,
    ) -> None:
        self.search = Search()
        self.log: list[Event] = []
        self.got: list[Sample] = []
        self.lost: list[str] = []
        self.scrapes = self.resets = 0
        self.refuses = refuses
        self._caps, self._mode = caps or Caps(), mode
        self._cursor, self._owed = 0, set[int]()

    def append(self, *events: str | tuple[str, str]) -> None:
        for event in events:
            series, value = (event, None) if isinstance(event, str) else event
            seq = len(self.log) + 1
            self.log.append(Event(seq, NOW + seq, series, value))

    @property
    def pending(self) -> Pending:
        rows = [event for event in self.log if event.seq in self._owed or event.seq > self._cursor]
        seqs, ats, series, values, _ = zip(*rows, strict=True) if rows else ((), (), (), (), ())
        owed = len(self._owed)
        return Pending(
            seqs=seqs,
            series=series,
            values=values,
            ats=ats,
            owed=owed,
            owed_total=owed,
            cursor=self._cursor,
            end=len(self.log),
        )

    def plan(self) -> Plan:
        """Plan the next response."""
        pending = self.pending
        self.search.forget(pending)
        several = self._mode is Timestamps.EVENT
        turn = self.search.choose(pending, self._caps, several=several)
        planned, _ = plan_next(
            turn.pending,
            turn.caps,
            wanted=self._mode,
            several=several,
            history=NO_HISTORY,
            now_ms=NOW + len(self.log),
            shown={},
        )
        planned = turn.complete(planned)
        self.search.sent(turn, planned)
        return planned

    def scrape(self, works: bool = True) -> list[Sample] | None:
        """Scrape once; return None if the scraper reset the response."""
        planned = self.plan()
        self.scrapes += 1
        if not works or any(self.refuses(sample) for sample in planned.samples):
            self.resets += 1
            self.search.was_reset()
            return None
        lost = set(planned.lost.get(REFUSED, ()))
        self.lost += [self.log[seq - 1].series for seq in sorted(lost)]
        self._owed = (self._owed | set(planned.newly_owed)) - set(planned.went_out) - lost
        self._cursor = planned.cursor
        self.got += planned.samples
        self.search.was_taken()
        return list(planned.samples)

    def scrape_all(self) -> int:
        """Scrape until nothing is pending; returns the number of scrapes."""
        before = self.scrapes
        while self.pending.seqs or not self.search.is_over:
            self.scrape()
            assert self.scrapes - before < ENDLESS, "the search does not end"
        return self.scrapes - before

    @property
    def sums(self) -> Counter[str]:
        sums: Counter[str] = Counter()
        for sample in self.got:
            sums[sample.series] += int(sample.value)
        return sums


def good(count: int, prefix: str = "s") -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


def begin_search(scraper: Scraper) -> None:
    for _ in range(RESETS):
        assert scraper.scrape() is None


@pytest.mark.parametrize("size", [2, 3, 10, 100, LARGEST])
@pytest.mark.parametrize("where", [0.0, 0.3, 1.0])
def test_one_sample_is_found_in_logarithmic_time_and_costs_no_other(size: int, where: float) -> None:
    """One event would cost 1,501 others, or the same 500 go out for ever."""
    scraper = Scraper()
    events = good(size - 1)
    events.insert(round(where * (size - 1)), "bad")
    scraper.append(*events)
    assert scraper.scrape_all() <= 2 * log2(size) + 15
    assert scraper.lost == ["bad"]
    assert scraper.sums == Counter(good(size - 1))


@pytest.mark.parametrize("bad", [2, 5, 20])
def test_several_samples_cost_one_search_each(bad: int) -> None:
    scraper = Scraper()
    events = good(400)
    for number in range(bad):
        events.insert(number * 397 % 400, f"bad{number}")
    scraper.append(*events)
    assert scraper.scrape_all() <= bad * (2 * log2(400) + 15)
    assert sorted(scraper.lost) == sorted(f"bad{number}" for number in range(bad))
    assert scraper.sums == Counter(good(400))


def test_new_events_are_delivered_while_the_search_goes_on() -> None:
    """New events would wait for the end of the search; at least every second scrape takes them."""
    scraper = Scraper()
    scraper.append(*good(200), "bad")
    begin_search(scraper)
    number, waiting, row = 0, 0, 0
    while "bad" not in scraper.lost:
        scraper.append(f"new{number}")
        number += 1
        row = row + 1 if scraper.scrape() is None else 0
        assert row <= 1, "two resets in a row"
        waiting = sum(event.series.startswith("new") for event in scraper.log) - sum(
            sample.series.startswith("new") for sample in scraper.got
        )
        assert waiting <= 1
        assert number < 60
    assert scraper.scrape_all() <= 3


@pytest.mark.parametrize("mode", Timestamps)
def test_later_events_of_the_series_keep_their_order_behind_it(mode: Timestamps) -> None:
    scraper = Scraper(lambda sample: sample.value == "13", mode=mode)
    scraper.append(("v", "12"), ("v", "13"), ("v", "14"), "w", ("v", "15"))
    for number in range(40):
        scraper.append(("v", str(16 + number)), "other")
        scraper.scrape()
    scraper.scrape_all()
    assert [s.value for s in scraper.got if s.series == "v"] == ["12", *map(str, range(14, 56))]
    assert scraper.lost == ["v"]


def test_a_suspect_count_keeps_its_events() -> None:
    """Refused as 3, it would be counted again as 2 and 5."""
    scraper = Scraper()
    scraper.append("bad", "a", "bad", "b", "bad")
    begin_search(scraper)
    values = []
    for _ in range(20):
        scraper.append("bad", "c")
        if scraper.lost:
            break
        values += [sample.value for sample in scraper.plan().samples if sample.series == "bad"]
        scraper.scrape()
    assert set(values) == {"3"}
    assert scraper.lost == ["bad"] * 3
    assert scraper.sums["c"] > 0


def test_a_scraper_that_resets_everything_refuses_no_sample() -> None:
    """A crash loop of a scraper would cost events that it can take."""
    scraper = Scraper(lambda sample: False)
    scraper.append(*good(300))
    for number in range(200):
        scraper.append(f"later{number}")
        assert scraper.scrape(works=False) is None
    events = len(scraper.log)
    assert scraper.scrape_all() <= 2 * log2(events) + 6
    assert scraper.lost == []
    assert sum(scraper.sums.values()) == events


def test_a_scraper_that_is_killed_at_times_loses_no_event() -> None:
    scraper = Scraper(lambda sample: False)
    for number in range(400):
        scraper.append(f"e{number}")
        scraper.scrape(works=number % 3 > 0)
    scraper.scrape_all()
    assert scraper.lost == []
    assert scraper.sums == Counter(good(400, "e"))


def test_one_reset_changes_nothing() -> None:
    """A restarted scraper gets everything with its next scrape."""
    scraper = Scraper()
    scraper.append(*good(10))
    assert scraper.scrape(works=False) is None
    assert len(scraper.scrape() or ()) == 10
    assert scraper.search.is_over


def test_a_sample_is_refused_only_once_others_were_delivered() -> None:
    """A scraper that takes no event at all would lose this one."""
    scraper = Scraper()
    scraper.append("bad")
    for _ in range(6 * STRIKES):
        scraper.scrape()
    assert scraper.lost == [] and scraper.search.suspects == 1
    scraper.append("good")
    scraper.scrape_all()
    assert (scraper.lost, scraper.sums) == (["bad"], Counter(good=1))


def test_a_burst_of_refused_events_does_not_block_all_others() -> None:
    """At the owed cap the cursor stops: no other event would be delivered."""
    scraper = Scraper(caps=Caps(owed=5))
    scraper.append(*["bad"] * 20, "a")
    begin_search(scraper)
    scraper.append(*["bad"] * 20, "b")
    assert scraper.scrape_all() < 30
    assert (len(scraper.lost), scraper.sums) == (40, Counter(a=1, b=1))


def test_strikes_do_not_count_if_other_responses_are_reset() -> None:
    """A scraper that is killed again and again would refuse what it was killed with."""
    scraper = Scraper()
    scraper.append("bad", "a")
    begin_search(scraper)
    for number in range(20):
        scraper.append(f"n{number}")
        planned = scraper.plan()
        if "bad" not in {sample.series for sample in planned.samples}:
            scraper.scrape(works=False)
        scraper.scrape()
        scraper.scrape()
    assert scraper.lost == []


def test_two_strikes_never_follow_each_other() -> None:
    """Without a taken response between two strikes the scraper itself may be broken."""
    scraper = Scraper()
    scraper.append("bad", "a")
    course: list[str] = []
    while not scraper.search.is_over or not course:
        course.append("reset" if scraper.scrape() is None else "taken")
    strikes = [number for number, what in enumerate(course) if what == "reset"][RESETS:]
    assert len(strikes) >= STRIKES
    assert all(later - earlier >= 2 for earlier, later in pairwise(strikes))


def test_deleted_events_are_no_longer_suspect() -> None:
    """The log was full, or the hold is over: their series must not wait for ever."""
    scraper = Scraper()
    scraper.append("bad", "a")
    begin_search(scraper)
    scraper.search.forget(Pending(cursor=2, end=2))
    assert scraper.search.suspects == 0


def test_what_is_owed_stays_within_its_cap_while_suspects_wait() -> None:
    scraper = Scraper(caps=Caps(owed=5))
    scraper.append(*good(3), "bad", *good(3, "t"))
    begin_search(scraper)
    for number in range(30):
        scraper.append(*(f"u{number}-{each}" for each in range(3)))
        planned = scraper.plan()
        assert len(planned.newly_owed) <= 7
        scraper.scrape()
    scraper.scrape_all()
    assert scraper.lost == ["bad"]
    assert len(scraper.got) == 96


SERIES = st.sampled_from(["a", "b", "c", "bad1", "bad2", "d", "e"])


@settings(phases=[Phase.explicit, Phase.generate])
@given(
    steps=st.lists(
        st.lists(SERIES | st.tuples(SERIES, st.integers(1, 99).map(str)), max_size=6), max_size=25
    ),
    fails=st.sets(st.integers(0, 40)),
    samples=st.integers(1, 8),
    owed=st.integers(0, 6),
    mode=st.sampled_from(Timestamps),
)
def test_each_event_is_delivered_once_or_refused_once(
    steps: Sequence[Iterable[str | tuple[str, str]]],
    fails: set[int],
    samples: int,
    owed: int,
    mode: Timestamps,
) -> None:
    """Events arrive during the search, and deliveries fail for other reasons."""
    scraper = Scraper(caps=Caps(samples=samples, owed=owed), mode=mode)
    for number, events in enumerate(steps):
        scraper.append(*events)
        scraper.scrape(works=number not in fails)
    scraper.append("z")
    for number in range(ENDLESS):
        if not scraper.pending.seqs:
            break
        scraper.append(f"z{number}")
        scraper.scrape()
    scraper.refuses = lambda sample: False
    scraper.scrape_all()
    sent: Counter[str] = Counter()
    for event in scraper.log:
        sent[event.series] += int(event.value or "1")
    fine = {series for series in sent if not series.startswith("bad")}
    sums = scraper.sums
    assert all(sums[series] == sent[series] for series in fine)
    assert all(series.startswith("bad") for series in scraper.lost)
    taken = Counter(event.series for event in scraper.log) - Counter(scraper.lost)
    for series in set(sent) - fine:
        assert sums[series] <= sent[series]
        assert (sums[series] > 0) <= (taken[series] > 0)


def with_suspects(count: int) -> Scraper:
    """A scraper that has reset so many responses that all samples of the last one are suspects."""
    scraper = Scraper()
    scraper.append(*(f"good{number}" for number in range(count)))
    for _ in range(RESETS):
        scraper.scrape(works=False)
    assert scraper.search.suspects == count
    return scraper


def test_suspects_beyond_the_read_part_of_the_owed_events_are_kept() -> None:
    """The search would begin anew with each response that reads a part of what is owed."""
    search = with_suspects(3).search
    part = Pending(seqs=[1], series=["good0"], values=[None], ats=[NOW + 1], owed=1, owed_total=3, end=3)
    search.forget(part)
    assert search.suspects == 3
    search.forget(Pending(end=3))
    assert search.suspects == 0


def test_a_test_has_no_more_suspects_than_a_response_can_hold() -> None:
    """A response beyond the caps would be refused for its size, and the sample found guilty."""
    scraper = with_suspects(8)
    scraper._caps = Caps(samples=1)
    sizes = []
    while not scraper.search.is_over:
        sizes.append(len(scraper.scrape() or ()))
        assert len(sizes) < ENDLESS
    assert max(sizes) == 1 and scraper.scrape_all() >= 0 and not scraper.lost


def test_without_a_readable_suspect_the_others_go_out() -> None:
    """Suspects among the owed events that were not read would hold up all others."""
    scraper = with_suspects(3)
    assert scraper.scrape() == [], "all are suspects"
    part = Pending(seqs=[9], series=["new"], values=[None], ats=[NOW], owed=1, owed_total=4, end=9)
    scraper.search._tested = False
    turn = scraper.search.choose(part, Caps(), several=False)
    assert not turn.tests and list(turn.pending.series) == ["new"]
