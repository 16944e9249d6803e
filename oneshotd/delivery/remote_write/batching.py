"""Choose the samples of a request out of the pending events. Pure.

Each event is one sample at its own time, and a request has one sample of a series at most. So each attempt
can be repeated: the newest sample of a series again changes nothing in Prometheus, while an older one is
refused with the whole request. The same pending events give the same request, so that nothing about a
request has to be on disk before it is sent.

Of each series the oldest pending event is the candidate. The others wait: those that the cursor passes are
owed. An event with a time to come waits as well, with all later ones of its series, since one sample far
ahead makes a Prometheus refuse every later one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from attrs import field, frozen

from oneshotd.core.events import Pending
from oneshotd.core.sampling.plan import readable
from oneshotd.delivery.remote_write.encoding import Encoder

#: Samples in a request, and its bytes before compression.
MAX_SAMPLES, MAX_BYTES = 2000, 1 << 20

#: Events that a receiver may be owed; at this many its cursor stops. All of them are read for each request.
MAX_OWED = 2000


@frozen(kw_only=True)
class Batch:
    """The samples of one request, and how to settle it.

    :param fields: the encoded samples.
    :param seqs: of their events, and so `series` and `ats` (Unix ms); in order.
    :param cursor: the receiver's cursor once it is accepted.
    :param newly_owed: seqs behind that cursor that wait.
    :param went_out: owed seqs among `seqs`.
    :param lost: reason -> seqs of events that no request can hold.
    :param next_at: the time (Unix ms) of the first event that waits for its time; None if none does.
    :param queueing: events, among those read, that wait behind an earlier one of their series.
    """

    fields: Sequence[bytes] = ()
    seqs: Sequence[int] = ()
    series: Sequence[str] = ()
    values: Sequence[str | None] = ()
    ats: Sequence[int] = ()
    cursor: int
    newly_owed: Sequence[int] = ()
    went_out: Sequence[int] = ()
    lost: Mapping[str, Sequence[int]] = field(factory=dict)
    next_at: int | None = None
    queueing: int = 0

    def __len__(self) -> int:
        return len(self.seqs)


def plan_batch(
    pending: Pending,
    encoder: Encoder,
    now: int,
    *,
    samples: int = MAX_SAMPLES,
    size: int = MAX_BYTES,
    owed: int = MAX_OWED,
    aside: Collection[int] = (),
) -> Batch:
    """Choose the samples of the next request.

    :param now: Unix ms, by the clock that gave the events their times.
    :param samples: most samples, at least 1.
    :param size: most bytes; a larger sample goes alone.
    :param owed: most events that may be owed.
    :param aside: seqs of events that wait, with the later ones of their series.
    """
    taken: list[int] = []
    fields: list[bytes] = []
    lost: dict[str, list[int]] = {}
    waiting: list[int] = []  # seqs behind the cursor that are not owed yet
    queueing, next_at, room = 0, None, size
    closed: set[str] = set()
    may_owe = owed - pending.owed_total
    cursor, passed = pending.cursor, 0
    rows = zip(range(readable(pending)), pending.seqs, pending.series, pending.ats, strict=False)
    for row, seq, series, at in rows:
        is_new = row >= pending.owed
        if series in closed or at > now or seq in aside:
            if series in closed:
                queueing += 1
            elif at > now:
                next_at = at if next_at is None else min(at, next_at)
            closed.add(series)
            if is_new:
                waiting.append(seq)
            continue
        if is_new and len(waiting) > max(may_owe, passed):
            break
        if (fault := encoder.fault(series)) is not None:
            lost.setdefault(fault, []).append(seq)
        else:
            encoded = encoder.sample(series, pending.values[row], at)
            room -= len(encoded)
            if taken and (len(taken) >= samples or room < 0):
                break
            closed.add(series)
            taken.append(row)
            fields.append(encoded)
        if is_new:
            cursor, passed = seq, len(waiting)
        else:
            may_owe += 1
    return Batch(
        fields=fields,
        seqs=[pending.seqs[row] for row in taken],
        series=[pending.series[row] for row in taken],
        values=[pending.values[row] for row in taken],
        ats=[pending.ats[row] for row in taken],
        cursor=cursor,
        newly_owed=waiting[:passed],
        went_out=[pending.seqs[row] for row in taken if row < pending.owed],
        lost=lost,
        next_at=next_at,
        queueing=queueing,
    )
