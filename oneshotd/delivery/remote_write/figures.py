"""What is known of one receiver, for metrics, the status page and /readyz."""

from __future__ import annotations

from collections import Counter
from enum import Enum

from attrs import define, field

from oneshotd.delivery.remote_write.verdicts import Verdict


class State(Enum):
    """What a receiver's state machine does."""

    STARTING = "starting"
    IDLE = "idle"
    SENDING = "sending"
    RETRYING = "retrying"
    MISCONFIGURED = "misconfigured"
    BUSY = "another daemon has the reservation"
    STANDING_BY = "standing by"
    STORE_UNAVAILABLE = "store unavailable"
    STOPPED = "stopped"


#: The label value of requests without an answer.
NO_ANSWER = "no answer"


@define(kw_only=True)
class Figures:
    """Counters since the daemon's start, and the present state.

    :ivar status: of the last answer; None: there was none yet, or no answer to the last request.
    :ivar trouble: why the last request was not accepted; empty: it was, or nothing waits.
    :ivar failing_since: reactor time (seconds) of the first of the attempts that failed in a row; None: the
        last one did not, or nothing waits.
    :ivar accepted_at: reactor time of the last request that was accepted.
    :ivar requests: `Verdict` value or `NO_ANSWER` -> requests.
    :ivar samples: events that were accepted.
    :ivar markers: "accepted", "refused" or "dropped" -> stale markers.
    :ivar replayed: samples that were sent again after the receiver was away.
    :ivar lost: reason -> events that this daemon has given up; the store counts them, too.
    :ivar waits_for_time: the last reservation had events with times to come.
    :ivar queueing: events that wait behind an earlier one of their series.
    """

    state: State = State.STARTING
    status: int | None = None
    trouble: str = ""
    failing_since: float | None = None
    accepted_at: float | None = None
    requests: Counter[str] = field(
        factory=lambda: Counter(dict.fromkeys([*(verdict.value for verdict in Verdict), NO_ANSWER], 0))
    )
    samples: int = 0
    markers: Counter[str] = field(
        factory=lambda: Counter(dict.fromkeys(("accepted", "refused", "dropped"), 0))
    )
    replayed: int = 0
    lost: Counter[str] = field(factory=Counter)
    waits_for_time: bool = False
    queueing: int = 0
