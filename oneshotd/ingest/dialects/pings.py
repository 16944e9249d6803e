"""Pings of jobs -> events with ``type="ping"``; the same for the protocols of Healthchecks and of Cronitor.

`healthchecks.py` and `cronitor.py` read a request as a `Ping`. Its `place` is a secret that names a check;
without a check there is no event. A job's start is kept in the store, and its end gets the seconds since
then as its value: with the same run id, or where neither ping has one, the last start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256

from attrs import field, frozen

from oneshotd.core.events import End, Group, Start, StateChange
from oneshotd.core.parsing.grammar import event
from oneshotd.errors import Refused
from oneshotd.ingest.dialects.details import fitted
from oneshotd.ingest.dialects.keys import event_key, state_key
from oneshotd.ingest.dialects.translation import Answer, Context, Message, Translation

#: The label `type` of pings.
TYPE = "ping"

#: States of a ping, its label `state`. `RESET` and `TICK` are Cronitor's ``ok``, and a ping without a state.
START, SUCCESS, FAIL, LOG, RESET, TICK = "start", "success", "fail", "log", "ok", "tick"

#: States that end a run.
ENDS = frozenset((SUCCESS, FAIL))

#: Seconds for which the start of a job is kept, unless its check says otherwise.
KEEP = 86400.0

#: Bytes of a body that are kept with an event, told to clients as ``Ping-Body-Limit``.
BODY_LIMIT = 3000

#: Where a check is found: a UUID, or a key and a name (Healthchecks: slug, Cronitor: monitor).
Place = tuple[str] | tuple[str, str]


@frozen(kw_only=True)
class Check:
    """A job that pings.

    :param name: the label `check` of its events.
    :param labels: further labels of its events.
    :param keep: seconds for which a start waits for its end.
    """

    name: str
    labels: Mapping[str, str] = {}
    keep: float = KEEP


def _digest(place: Place) -> bytes:
    """Return what a place is looked up by, so that the time of a look-up tells nothing of other places."""
    return sha256("/".join(place).encode("utf-8", "surrogatepass")).digest()


def _by_digest(checks: Mapping[Place, Check] | Iterable[tuple[Place, Check]]) -> Mapping[bytes, Check]:
    return {_digest(place): check for place, check in dict(checks).items()}


@frozen
class Checks:
    """All checks by their places; made from place -> check."""

    _checks: Mapping[bytes, Check] = field(factory=dict, converter=_by_digest)

    def __len__(self) -> int:
        return len(self._checks)

    def find(self, place: Place) -> Check | None:
        """Return the check at a place."""
        return self._checks.get(_digest(place))

    @property
    def names(self) -> Sequence[str]:
        """The names of all checks, sorted."""
        return sorted({check.name for check in self._checks.values()})


@frozen(kw_only=True)
class Ping:
    """A ping as its sender meant it.

    :param place: names the check; a secret.
    :param exit_code: as a number in text; empty: none.
    :param run: an id that the pings of one run have in common; empty: none.
    :param series: what also tells runs apart where there is no such id.
    :param value: a number in text that the sender has measured; empty: none.
    :param details: kept beside the event.
    """

    place: Place
    state: str
    exit_code: str = ""
    run: str = ""
    series: Sequence[str] = ()
    value: str = ""
    details: Mapping[str, str] = {}


def translate_ping(ping: Ping, check: Check, message: Message, context: Context) -> Translation:
    """Return the event of a ping, and what it needs of the store's state."""
    labels = {**check.labels, "type": TYPE, "check": check.name, "state": ping.state}
    if ping.exit_code:
        labels["exit_code"] = ping.exit_code
    pairs: list[tuple[str, str | None]] = [*labels.items(), *fitted(ping.details, keep_end=["text"])]
    if ping.value:
        pairs.append(("value", ping.value))
    parts = (check.name, ping.run, *(ping.series if any(ping.series) and not ping.run else ()))
    states: list[StateChange] = []
    if ping.state == START:
        states.append(Start(event=0, key=state_key(TYPE, message.principal, *parts), seconds=check.keep))
    elif ping.state in ENDS:
        states.append(End(event=0, key=state_key(TYPE, message.principal, *parts)))
    made = event(pairs, context.rules)
    if ping.run:
        # A run may log several texts: only the same text is a repetition.
        text = (ping.details.get("text", ""),) if ping.state == LOG else ()
        key = event_key(TYPE, message.principal, check.name, ping.run, ping.state, *text)
        made = made._replace(key=key)
    return Translation(
        group=Group(events=[made], states=states, keys_decide=True), answer=lambda stored: _ANSWER
    )


#: Both protocols answer so.
_ANSWER = Answer(body=b"OK", content_type="text/plain")


def body_text(body: bytes) -> str:
    """Return the end of a body as text; bytes that are not UTF-8 are replaced."""
    return body[-BODY_LIMIT:].decode("utf-8", "replace").strip()


def malformed() -> Refused:
    """Return the refusal of a path that is none of a ping, in the words of Healthchecks."""
    return Refused("invalid url format", reason="syntax")
