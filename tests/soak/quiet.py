"""The end of a campaign: nothing more is sent but what shows that everybody gets everything."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import partial

from soak.ledger import PLAIN, Books
from soak.marks import ODD, is_odd, labels
from soak.push_judge import Findings
from soak.receiver import RECEIVER, Receiver
from soak.scraper import REFUSING, SCRAPERS, Scraper
from soak.senders import FOREIGN, DatagramSender, OddSender, PlainSender
from support.daemon import Daemon
from support.processes import until

#: Seconds until all is read once nothing more is sent; and until the receiver has everything: after several
#: failed attempts it waits for a minute, give or take a half.
QUIET_WITHIN, PUSHED_WITHIN = 60.0, 120.0

#: Seconds until all events are set aside that a scraper refuses: the search for one takes up to some
#: 30 scrapes, a slow machine makes two or three in a second, and there may be two to search for.
#: And seconds in which a delivery that was read is no longer pending.
REFUSED_WITHIN, SETTLED_WITHIN = 120.0, 0.5


def figures(daemon: Daemon, name: str) -> list[tuple[str, str]]:
    """Return the series of a metric of the daemon and their values, as the text has them."""
    lines = [line.rpartition(" ") for line in daemon.look().splitlines() if line.startswith(name)]
    return [(series, value) for series, _, value in lines]


class Quiet:
    """Waits until all is read, and for what would come twice.

    :param scrapers: which go on.
    :param receiver: None: there is none.
    """

    def __init__(
        self,
        daemon: Daemon,
        books: Books,
        seed: int,
        *,
        scrapers: Sequence[Scraper],
        receiver: Receiver | None,
    ) -> None:
        self._daemon = daemon
        self._books = books
        self._seed = seed
        self._scrapers = scrapers
        self._receiver = receiver

    def await_all(self, *, datagrams: bool) -> Findings | None:
        """Do all of it; what is not as it has to be is in the books afterwards.

        :param datagrams: whether there were any.
        """
        books, receiver = self._books, self._receiver
        for scraper in self._scrapers:
            scraper.calm_down()
        if receiver is not None:
            receiver.line.calm = True
        if any(is_odd(identity) for sending in books.sendings for identity in sending.amounts):
            self._await_refusals()
        if datagrams:
            self._send_foreign_lines()
        self._await_nothing(SCRAPERS, QUIET_WITHIN)
        if receiver is not None:
            self._await_nothing((RECEIVER,), PUSHED_WITHIN)
        if not books.await_readings(3, 30):
            books.note_wrong("a scraper does not get three answers in 30 s, and all is quiet")
        findings = None if receiver is None else receiver.find_out(self._daemon)
        for series, value in figures(self._daemon, "oneshotd_scraper_lost_events_total"):
            if float(value):
                of = labels(series)
                books.losses[of["scraper"], of["reason"]] = int(float(value))
        return findings

    def _await_nothing(self, scrapers: Collection[str], seconds: float) -> None:
        """Wait until nothing is pending for them."""

        def is_nothing() -> bool:
            pending = self._pending()
            return all(pending.get(name) == 0 for name in scrapers)

        try:
            until(is_nothing, seconds, lambda: f"all read; pending: {self._pending()}")
        except AssertionError as error:
            self._books.note_wrong(str(error))

    def _await_refusals(self) -> None:
        """Send a last event that a scraper refuses, and wait until each of them is set aside.

        Those of the rounds may all be in deliveries that were thrown away at a kill, and not counted.
        Other events have to go on for that: until one was delivered, nothing shows that the scraper
        refuses this sample and not all of them.
        """
        books = self._books
        port, seed = self._daemon.port, self._seed
        odd = OddSender(f"{ODD}-last", books=books, port=port, seed=seed, scraper=REFUSING)
        odd.send_next()
        odd.leave()
        sender = PlainSender("last", books=books, port=port, seed=seed)
        end = time.monotonic() + REFUSED_WITHIN
        while time.monotonic() < end:
            mark = sender.mark()
            sender.post_once(PLAIN, [mark], partial(sender.post, f"/event?{mark.line()}"))
            books.await_read(REFUSING, mark.identity, end - time.monotonic())
            settled = time.monotonic() + SETTLED_WITHIN
            while time.monotonic() < settled:
                if not self._pending().get(REFUSING):
                    sender.leave()
                    return
                time.sleep(0.02)
        sender.leave()
        books.note_wrong(f"{REFUSING}: not all is read or set aside within {REFUSED_WITHIN:g} s")

    def _send_foreign_lines(self) -> None:
        """Send one of each, and see that the daemon counts each as refused.

        Only now is that exact: no datagram is under way from before, and no kill comes.
        """
        books = self._books
        sender = DatagramSender(
            "udp-last", books=books, port=self._daemon.port, seed=self._seed, scraper="ann"
        )
        if not books.await_read("ann", sender.send_one(), 30):
            books.note_wrong("a datagram is not read within 30 s, and all is quiet")
        before = self._refused()
        sent = [sender.send_one(line) for line in FOREIGN]
        books.await_read("ann", sent[-1], 30)
        counted = self._refused() - before
        if counted != Counter(FOREIGN.values()):
            books.note_wrong(f"of the foreign lines {Counter(FOREIGN.values())}, refused: {counted}")
        sender.leave()

    def _refused(self) -> Counter[str]:
        """Reason -> how many lines and requests this process has refused."""
        found = figures(self._daemon, "oneshotd_refused_total")
        return Counter({labels(series)["reason"]: int(float(value)) for series, value in found})

    def _pending(self) -> Mapping[str, int]:
        """Scraper -> how many events it has not got."""
        found = figures(self._daemon, "oneshotd_scraper_pending_events")
        return {labels(series)["scraper"]: int(float(value)) for series, value in found}
