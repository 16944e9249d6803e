"""When the waiting events become a batch: one rule, without a clock, a timer or the events themselves.

Clients that were answered by one commit mostly send their next requests at about the same time. If the
first of these were committed alone, the clients would split into two halves that take turns, and pay for
twice as many commits. So a batch waits, for a short time, until as many requests are there as the last
commit has answered.

| what waits | the batch is due |
|---|---|
| requests, as many as the last commit has answered | at once |
| requests, and that commit ended longer ago than the limit | at once |
| fewer requests | when none has arrived for two commit times, and at the limit at the latest |
| datagrams only | 5 ms after the last commit |

The limit is 2 ms from the beginning of the batch. After a slow commit it is a tenth of that commit's time,
100 ms at most: the way of a client may be longer than 2 ms, and a wrong split costs a slow commit.
"""

from __future__ import annotations

from math import inf

from attrs import define

#: Bounds of the time for which a batch may wait for requests (seconds), and the part of the last commit's
#: time that it is between them.
MIN_LIMIT, MAX_LIMIT, LIMIT_PART = 0.002, 0.1, 0.1

#: A batch waits no longer if no request has arrived for so many times as long as the last commit took.
COMMITS_WITHOUT_ARRIVAL = 2

#: Seconds between a commit and the next batch if it has datagrams only, for which no client waits. A
#: single datagram goes at once.
DATAGRAM_INTERVAL = 0.005


@define
class BatchRule:
    """Decides when a batch is due, by the last commit and by what waits; times are seconds of one clock.

    :ivar expected: requests that may be there soon, of the clients that the last commit has answered and of
        those that waited behind it.
    """

    expected: int = 0
    _committed_at: float = -inf
    _commit_seconds: float = 0.0

    def committed(self, *, at: float, seconds: float, expected: int) -> None:
        """Note how the last commit ended.

        :param seconds: how long it took.
        :param expected: requests that it answered, and requests that have been waiting meanwhile.
        """
        self._committed_at, self._commit_seconds, self.expected = at, seconds, expected

    def due(self, *, requests: int, since: float, latest: float) -> float:
        """Return the time at which the waiting events become a batch; a time in the past means at once.

        :param requests: how many events wait whose client waits for an answer.
        :param since: when the batch could have begun: at its first event, or at the end of the commit before.
        :param latest: when the latest event arrived.
        """
        if not requests:
            return self._committed_at + DATAGRAM_INTERVAL
        limit = min(max(LIMIT_PART * self._commit_seconds, MIN_LIMIT), MAX_LIMIT)
        if requests >= self.expected or since > self._committed_at + limit:
            return since
        return min(since + limit, max(since, latest) + COMMITS_WITHOUT_ARRIVAL * self._commit_seconds)
