"""The campaign: load, faults, restarts, and in the end the books.

The daemon is a real process. Everything is on the loopback, and no other process is touched.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from random import Random

from attrs import frozen
from soak.actor import Actor, Bag, working
from soak.ledger import CUT, ON_ITS_WAY, READ, Books
from soak.marks import ODD
from soak.plan import (
    AS_READ,
    AT_REST,
    EXTRAS,
    KILLS,
    OFFSETS,
    PAUSE,
    PAUSED,
    PAUSES,
    PAUSES_AT,
    PAUSES_IN_A_ROW,
    PUSH_KILLS,
    PUSH_KILLS_AT,
    STARTING,
    STEP,
    TERM,
    UNDER_LOAD,
)
from soak.push_judge import Findings
from soak.quiet import Quiet, figures
from soak.receiver import KINDS, Receiver
from soak.scraper import REFUSING, SCRAPERS, Scraper
from soak.senders import BulkSender, DatagramSender, KeyedSender, OddSender, PlainSender, Sender
from soak.sendings import Outage
from soak.tls_line import Door
from support.daemon import Daemon
from support.faketime import WallClock

#: Seconds in which what has been delivered, or thrown away, has to be on disk; and in which a turn
#: of a scraper or sender ends.
TIME_TO_NOTE, TIME_FOR_A_TURN = 1.5, 30.0

#: Seconds until a request to the receiver comes to a moment: it may be away just now.
TIME_TO_PUSH = 30.0

#: A campaign that is behind its plan, on a machine with other things to do, ends at this multiple of
#: its time.
OVERTIME = 5.0

#: Command line name -> sender.
SENDERS: dict[str, type[Sender]] = {"keyed": KeyedSender, "plain": PlainSender, "bulk": BulkSender}
DATAGRAMS = "udp"
ALL_SENDERS = (*SENDERS, DATAGRAMS, ODD)


@frozen(kw_only=True)
class Settings:
    """What is to be done.

    :param seconds: how long it takes, about.
    :param rounds: kills.
    :param senders: names out of `ALL_SENDERS`; two of each are started, and one of `ODD`.
    :param clock: whether the daemon gets a wall clock that is set now and then.
    :param tls: whether the scrapers use TLS.
    :param receiver: the ``prometheus`` that is pushed to; None: there is none.
    """

    seconds: float
    rounds: int
    seed: int
    senders: tuple[str, ...] = ALL_SENDERS
    clock: bool = False
    tls: bool = False
    receiver: Path | None = None


class Campaign:
    """One campaign.

    :param folder: for the daemon's store and log.
    :ivar books: what happened.
    :ivar kills: rounds done.
    :ivar began: monotonic seconds.
    :ivar seconds: how long it took.
    :ivar kinds: of faults, all that are to come.
    :ivar receiver: of remote write; None: there is none.
    :ivar findings: what that one has in the end.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.books = Books(SCRAPERS, [REFUSING])
        self.kills = 0
        self.began = time.monotonic()
        self.seconds = 0.0
        self._clock = WallClock(folder) if settings.clock else None
        door = Door.with_tls(folder) if settings.tls else Door()
        self.findings: Findings | None = None
        self.receiver: Receiver | None = None
        if settings.receiver is not None:
            self.receiver = Receiver(settings.receiver, folder, books=self.books, seed=settings.seed)
        more = (*door.options, *(self.receiver.options if self.receiver else ()))
        self.daemon = Daemon(folder, more=more, variables=self._variables())
        self._dice = Random(f"{settings.seed}/campaign")
        kills = (*KILLS, *PUSH_KILLS) if self.receiver else KILLS
        self._kinds = Bag(self._dice, kills)
        extras = EXTRAS if self._clock is None else (*EXTRAS, STEP, STEP)
        self._extras = Bag(self._dice, extras)
        kinds = (*kills, *extras, *(KINDS if self.receiver else ()))
        self.kinds = tuple(dict.fromkeys(filter(None, kinds)))
        self._down = 0.6  # seconds that a restart takes, as measured
        self._process = ""
        books, port, seed = self.books, self.daemon.port, settings.seed
        self._scrapers = [
            Scraper(name, habit, books=books, port=door.port or port, seed=seed, connect=door.connect)
            for name, habit in SCRAPERS.items()
        ]
        self.senders: list[Sender] = [
            SENDERS[name](f"{name}-{i}", books=books, port=port, seed=seed)
            for name in settings.senders
            if name in SENDERS
            for i in (1, 2)
        ]
        if ODD in settings.senders:
            self.senders.append(OddSender(f"{ODD}-1", books=books, port=port, seed=seed, scraper=REFUSING))
        self._datagrams = [
            DatagramSender(f"{DATAGRAMS}-{name}", books=books, port=port, seed=seed, scraper=name)
            for name in ("ann", "cyd")
            if DATAGRAMS in settings.senders
        ]

    def _variables(self) -> dict[str, str]:
        variables = {"LOG_LEVEL": "debug"}
        if self._clock is not None:
            variables |= self._clock.variables
            # Read anew with every look at the clock, the file would make the daemon 50 times slower.
            variables.pop("FAKETIME_NO_CACHE", None)
            variables["FAKETIME_CACHE_DURATION"] = "1"
        return variables

    def run(self) -> None:
        """All of it; what went wrong is in the books afterwards."""
        faults = [] if self.receiver is None else [self.receiver.faults]
        with self.receiver or nullcontext(), self.daemon, self._working(self._scrapers):
            self._process = self._own_name()
            if not self.books.await_readings(1, 30):
                self.books.note_wrong("not every scraper could read at all")
            with self._working(faults), self._working([*self.senders, *self._datagrams]):
                self._rounds()
            quiet = Quiet(
                self.daemon,
                self.books,
                self.settings.seed,
                scrapers=self._scrapers,
                receiver=self.receiver,
            )
            self.findings = quiet.await_all(datagrams=bool(self._datagrams))
            self.books.in_order.add(self._process)
            self.daemon.stop()
            self.books.ended[self._process] = time.monotonic()
        self.seconds = time.monotonic() - self.began
        for line in self.daemon.errors()[:20]:
            self.books.note_wrong(f"the daemon's log: {line}")

    def _working(self, actors: Sequence[Actor]) -> AbstractContextManager[None]:
        return working(actors, self.books.note_wrong, 90)

    # -- the rounds

    def _rounds(self) -> None:
        settings = self.settings
        end = time.monotonic() + settings.seconds
        last = time.monotonic() + OVERTIME * settings.seconds
        while self.kills < settings.rounds and time.monotonic() < last:
            mean = (end - time.monotonic()) / (settings.rounds - self.kills) - self._down
            life = self._dice.uniform(0.05, max(0.1, 2 * mean))
            self._extra(life)
            self._kill(self._kinds.draw(), life)
            for text in self.books.overdue():
                self.books.note_wrong(f"after kill {self.kills}: {text}")
        # Where no kills are asked for, the load has its time all the same.
        while not settings.rounds and time.monotonic() < end:
            self._live(0.1)

    def _live(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds))
        self.daemon.process.check()

    def _extra(self, life: float) -> None:
        kind = self._extras.draw()
        if kind == PAUSE:
            self._live(life / 2)
            self._pause()
            self.books.fault(PAUSE)
        elif kind in PAUSES_AT:
            for _ in range(PAUSES_IN_A_ROW):
                self.books.await_moment(PAUSES_AT[kind], life + 1)
                time.sleep(self._dice.choice([0.0, 0.0, 0.0005, 0.002]))
                self._pause()
            self.books.fault(kind)
        elif kind == STEP and self._clock is not None:
            self._live(life / 2)
            self._clock.set(self._dice.choice(OFFSETS))
            self.books.fault(STEP)
        elif kind == TERM:
            self._live(life / 2)
            began = time.monotonic()
            self.books.in_order.add(self._process)
            self.daemon.stop()
            self.books.fault(TERM)
            self._start(began)

    def _kill(self, kind: str, life: float) -> None:
        if kind == STARTING:
            self._live(life)
            self.daemon.kill()
            began = self._ended(ON_ITS_WAY)
            self.books.fault(UNDER_LOAD)
            self.daemon.process.start(lambda: True)
            time.sleep(self._dice.uniform(0.0, 1.5 * self._down))
            self.daemon.kill()
            self.kills += 1
        elif kind == PAUSED:
            self._live(life)
            paused = self._stop()
            time.sleep(self._dice.uniform(0.0, 1.0))
            self.daemon.kill()
            began = self._ended(ON_ITS_WAY + time.monotonic() - paused)
        elif kind == AT_REST:
            self._live(life)
            with self._all_still():
                self._live(TIME_TO_NOTE)
                self.books.at_rest.add(self._process)
                self.daemon.kill()
                began = self._ended(0.0)
        elif kind in PUSH_KILLS and self.receiver is not None:
            self._live(life / 2)
            moment = PUSH_KILLS_AT[kind]
            with self.receiver.line.holding(moment):
                if not self.books.await_moment(moment, life + TIME_TO_PUSH):
                    kind = UNDER_LOAD
                time.sleep(self._dice.choice([0.0, 0.0, 0.001, 0.003, 0.01]))
                self.daemon.kill()
            began = self._ended(ON_ITS_WAY)
        else:
            self._live(life if kind == UNDER_LOAD else life / 2)
            if kind != UNDER_LOAD:
                self.books.await_moment(READ if kind == AS_READ else CUT, life + 1)
                time.sleep(self._dice.choice([0.0, 0.0, 0.001, 0.003, 0.01]))
            self.daemon.kill()
            began = self._ended(ON_ITS_WAY)
        self.kills += 1
        self.books.fault(kind)
        self._start(began)

    @contextmanager
    def _all_still(self) -> Iterator[None]:
        actors: list[Actor] = [*self._scrapers, *self.senders, *self._datagrams]
        if self.receiver is not None:
            actors.append(self.receiver.faults)
        for actor in actors:
            actor.hold()
        for actor in actors:
            if not actor.is_still(TIME_FOR_A_TURN):
                self.books.note_wrong(f"{actor.name} is busy for {TIME_FOR_A_TURN:g} s with one turn")
        try:
            yield
        finally:
            for actor in actors:
                actor.go_on()

    def _pause(self) -> None:
        """Stop the daemon for a while."""
        self.daemon.process.check()
        began = self._stop()
        time.sleep(self._dice.uniform(*self._dice.choice(PAUSES)))
        os.kill(self.daemon.process.pid, signal.SIGCONT)
        self.books.pauses.append(Outage(began=began, ended=time.monotonic()))

    def _stop(self) -> float:
        os.kill(self.daemon.process.pid, signal.SIGSTOP)
        return time.monotonic()

    def _ended(self, on_its_way: float) -> float:
        """Note the end; since when datagrams may have been lost."""
        now = time.monotonic()
        self.books.ended[self._process] = now
        began = now - on_its_way
        for pause in reversed(self.books.pauses):
            if began < pause.ended + ON_ITS_WAY:
                began = min(began, pause.began)
        return began

    def _start(self, began: float) -> None:
        started = time.monotonic()
        self.books.ended.setdefault(self._process, started)
        self.daemon.start()
        now = time.monotonic()
        self._down = 0.8 * self._down + 0.2 * (now - started)
        self._process = self._own_name()
        self.books.outages.append(Outage(began=began, ended=now))

    def _own_name(self) -> str:
        return str(figures(self.daemon, "process_start_time_seconds")[0][1])
