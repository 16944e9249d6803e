"""The faults of a cluster campaign, their proportions, and how long they last."""

from __future__ import annotations

from collections.abc import Mapping

#: Faults of the database; each of the first five makes the standby the primary.
FAILOVER = "promotion of the standby, the primary killed (kill -9)"
FROZEN = "promotion of the standby, the primary frozen, then thawed, then killed"
IN_COMMITS = "promotion of the standby without the commits that wait for it"
CANCELLED = "promotion after the waits for the standby were cancelled"
SWITCHOVER = "promotion after an orderly stop of the primary"
PROMOTIONS = (FAILOVER, FROZEN, IN_COMMITS, CANCELLED, SWITCHOVER)

CRASH = "kill -9 of the primary, restart"
RESTART = "orderly restart of the primary"
TERMINATED = "all sessions terminated"
STOPPED_SESSION = "a session stopped (SIGSTOP)"
STOPPED_STANDBY = "the standby stopped (SIGSTOP)"

DATABASE = (
    *PROMOTIONS,
    FAILOVER,
    CRASH,
    CRASH,
    RESTART,
    *(TERMINATED,) * 3,
    *(STOPPED_SESSION,) * 2,
    *(STOPPED_STANDBY,) * 2,
)

#: Faults of the daemons and of the balancer.
KILL = "kill -9 of a daemon at a random moment"
KILL_AS_READ = "kill -9 of a daemon as a scraper has read events"
KILL_AS_CUT = "kill -9 of a daemon as a scraper cuts its connection"
KILL_AS_PUSHED = "kill -9 of a daemon between two steps of an exchange with the receiver"
KILL_ALL = "kill -9 of all daemons"
STOPPED_LONG = "a daemon stopped beyond its lease (SIGSTOP)"
STOPPED_SHORT = "a daemon stopped within its lease (SIGSTOP)"
KILL_STOPPED = "kill -9 of a stopped daemon"
TERM = "orderly restart of a daemon (SIGTERM)"
BALANCER_KILLED = "kill -9 of the load balancer"
BALANCER_RESTARTED = "orderly restart of the load balancer"

DAEMONS = (
    *(KILL,) * 2,
    *(KILL_AS_READ,) * 2,
    *(KILL_AS_CUT,) * 2,
    KILL_ALL,
    *(STOPPED_LONG,) * 3,
    *(STOPPED_SHORT,) * 2,
    KILL_STOPPED,
    *(TERM,) * 2,
    BALANCER_KILLED,
    BALANCER_RESTARTED,
)

#: Those that take a receiver of remote write.
PUSHING = (KILL_AS_PUSHED, KILL_AS_PUSHED)

#: Faults of the lines between daemons and database.
CUT = "a daemon's lines to the database are cut"
CUT_LONG = "a daemon's lines to the database are cut beyond its lease"
ANSWERS = "the database's answers to a daemon get lost"

LINES = (CUT, CUT, CUT_LONG, ANSWERS, ANSWERS)

#: Seconds of each, from and to; of those beyond the lease, in addition to its margin.
SECONDS: Mapping[str, tuple[float, float]] = {
    FROZEN: (1.0, 4.0),
    IN_COMMITS: (0.2, 1.5),
    CANCELLED: (0.2, 1.5),
    STOPPED_SESSION: (0.5, 7.0),
    STOPPED_STANDBY: (0.5, 8.0),
    STOPPED_SHORT: (0.2, 2.0),
    KILL_STOPPED: (0.2, 6.0),
    CUT: (0.5, 4.0),
    CUT_LONG: (4.0, 9.0),
    STOPPED_LONG: (3.0, 7.0),
    ANSWERS: (0.5, 8.0),
}

BEYOND = (CUT_LONG, STOPPED_LONG)

#: Seconds by which the clock of a server is wrong, where the servers have clocks of their own.
CLOCKS = (0.0, -7200.0, 7200.0, -3.0, 3.0)

#: Seconds between two faults of one part, from and to.
PAUSES: Mapping[str, tuple[float, float]] = {
    "database": (2.0, 9.0),
    "daemons": (1.0, 6.0),
    "lines": (6.0, 18.0),
}
