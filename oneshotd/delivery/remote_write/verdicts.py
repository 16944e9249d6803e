"""What the answer to a request means for its samples. Pure.

=======================  ===============================================================================
answer                   verdict
=======================  ===============================================================================
2xx but 202              ACCEPTED: stored
202                      DISCARDED: Mimir and Cortex answer it for samples that they throw away, since
                         another replica is elected
400, 409, 422            REFUSED: something in the request. Prometheus has stored nothing of it; Mimir,
                         Cortex and Thanos have stored the rest
413                      TOO_LARGE
408, 425, 429, 502, 503, AGAIN: the same request, later
504, 529, no answer
other 5xx                DOUBTFUL: as AGAIN, but some receivers answer so for one bad sample
3xx, other 4xx           MISCONFIGURED: address, credentials, or a receiver that is not enabled
=======================  ===============================================================================

Only the status counts. The body is for people.
"""

from __future__ import annotations

from enum import Enum


class Verdict(Enum):
    """The meaning of an answer."""

    ACCEPTED = "accepted"
    DISCARDED = "discarded"
    REFUSED = "refused"
    TOO_LARGE = "too large"
    AGAIN = "again"
    DOUBTFUL = "doubtful"
    MISCONFIGURED = "misconfigured"


#: After these a request of fewer samples follows at once.
SPLIT = (Verdict.REFUSED, Verdict.TOO_LARGE)

_VERDICTS = {
    202: Verdict.DISCARDED,
    400: Verdict.REFUSED,
    409: Verdict.REFUSED,
    422: Verdict.REFUSED,
    413: Verdict.TOO_LARGE,
    **dict.fromkeys((408, 425, 429, 502, 503, 504, 529), Verdict.AGAIN),
}


def verdict_of(status: int) -> Verdict:
    """Return the meaning of an HTTP status."""
    if status in _VERDICTS:
        return _VERDICTS[status]
    if 200 <= status < 300:
        return Verdict.ACCEPTED
    return Verdict.DOUBTFUL if status >= 500 else Verdict.MISCONFIGURED
