"""What the campaign does to the daemon, and how often."""

from __future__ import annotations

from soak.ledger import ASKED, CUT, FIRST, READ
from soak.push_line import MARKED, PUSHED, SETTLING, STORED

#: Ways to die, in the proportion in which they come.
UNDER_LOAD = "kill -9 at a random moment"


AS_READ = "kill -9 as a scraper has read events"


AS_CUT = "kill -9 as a scraper cuts its connection"


PAUSED = "kill -9 while paused (SIGSTOP)"


AT_REST = "kill -9 when nothing is under way"


STARTING = "kill -9 while it starts"


KILLS = (UNDER_LOAD,) * 4 + (AS_READ,) * 3 + (AS_CUT,) * 2 + (PAUSED, AT_REST, STARTING)


#: Where there is a receiver of remote write, between two steps of an exchange with it: kind -> the moment.
PUSH_KILLS_AT = {
    f"kill -9 {when}": moment
    for when, moment in {
        "with a request to the receiver under way": PUSHED,
        "with stale markers under way": MARKED,
        "with the answer of the receiver under way": STORED,
        "as the answer of the receiver has come": SETTLING,
    }.items()
}
PUSH_KILLS = tuple(PUSH_KILLS_AT)


#: What else a life of the daemon may bring.
PAUSE, TERM, NOTHING = "pause and resume (SIGSTOP, SIGCONT)", "orderly restart (SIGTERM)", ""


#: Pauses that begin where a scrape stands at some point.
PAUSES_AT = {
    f"pauses as a scraper {what}": moment
    for what, moment in {
        "has asked": ASKED,
        "has got the first bytes": FIRST,
        "has read events": READ,
        "cuts its connection": CUT,
    }.items()
}


#: Where the daemon has a wall clock of its own (libfaketime).
STEP = "the wall clock is set"


EXTRAS = (PAUSE, TERM, *PAUSES_AT) + (NOTHING,) * 4


#: Seconds of a pause: shorter than every scraper's timeout, or longer than some.
PAUSES = ((0.02, 0.3), (0.02, 0.3), (0.9, 1.7), (1.9, 3.0))


#: Pauses in a row, where they begin at a point of a scrape.
PAUSES_IN_A_ROW = 2


#: Seconds that the wall clock is off.
OFFSETS = (-7200.0, -20.0, 0.0, 0.0, 20.0, 7200.0)
