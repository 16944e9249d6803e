"""The seam between a receiver's state machine and the sender: one request, and its answer."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen
from twisted.internet.defer import Deferred


@frozen(kw_only=True)
class Answer:
    """The answer to one request.

    :param status: HTTP status, 3xx included: the sender follows no redirect.
    :param retry_after: seconds of Retry-After, already computed from a date; None: no such header.
    :param text: the first bytes of the body, printable, for log lines alone.
    :param reconnected: it came over another connection than the answer before. The receiver may have been
        restarted in between, see `ReceiverSettings.replay`.
    """

    status: int
    retry_after: float | None = None
    text: str = ""
    reconnected: bool = False


class NotSent(Exception):
    """No byte of the request has left: no connection could be made.

    Any other failure of a `Post` leaves open whether the receiver has stored the request.
    """


#: Sends the body of one request (protobuf in a snappy block). The Deferred fires when the answer is complete,
#: or fails with `NotSent` or any other exception. Cancelling it closes the connection at once
#: (abortConnection) and it fails then; the caller cancels after `ReceiverSettings.timeout`.
Post = Callable[[bytes], Deferred[Answer]]
