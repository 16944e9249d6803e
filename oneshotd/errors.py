"""Errors of clients (`Refused`, with an HTTP status) and of the daemon (`OneshotError`).

`Refused` is translated into an answer in one place (`web/error_responses.py`) and into a counter in
`udp/datagrams.py`; `OneshotError` ends the start of the daemon, or becomes a 503.
"""

from __future__ import annotations

#: Every reason of a refusal. The reason is a label value of a metric, so the set is closed.
REASONS = (
    "busy",  # back-pressure: the queue to the store is full
    "conflict",  # an idempotency key was seen with other content
    "empty",  # the body has no event
    "encoding",  # not UTF-8, or a broken percent escape
    "forbidden",  # the address or an access rule does not allow it, or a page of another site sent it
    "hook",  # the file of a hook cannot be used, or the process that reads large bodies has failed
    "key",  # a malformed idempotency key
    "label",  # a label's name
    "limit",  # too many labels, series or events, too long a name or value, too large a body
    "name",  # a metric name that is illegal or taken
    "query",  # a parameter of a scrape that is no name, number or mode
    "rate",  # events or requests that come faster than an access rule or the daemon allows
    "store",  # the store cannot write at the moment
    "syntax",  # the bytes have not the form that their type says
    "timeout",  # a request that was not complete in time
    "type",  # an unknown body type
    "unauthorized",  # no credential, or one that is wrong
    "value",  # a sample value that is not a number
)


class Refused(Exception):
    """A client's request is refused; one line of text says what, where and why.

    :param text: one line for a person, without a full stop at its end.
    :param reason: one of `REASONS`.
    :param status: the HTTP status that says the same.
    :param retry_after: seconds after which the client may try again; None: not known.
    """

    def __init__(
        self, text: str, *, reason: str, status: int = 400, retry_after: float | None = None
    ) -> None:
        if reason not in REASONS:
            raise ValueError(f"reason: expected one of {REASONS}, got {reason!r}")
        super().__init__(text)
        self.text = text
        self.reason = reason
        self.status = status
        self.retry_after = retry_after


class OneshotError(Exception):
    """The daemon has failed; the text tells the operator the cause."""


class ConfigError(OneshotError):
    """An option or the configuration file is wrong; the daemon does not start."""


class StoreRefused(OneshotError):
    """The store is foreign, too new, locked, or cannot be opened; the daemon does not start."""


class StoreInUse(StoreRefused):
    """Another process uses the store, or did so until a moment ago."""


class StoreUnavailable(OneshotError):
    """The store cannot write at this moment (disk full, I/O error); nothing was stored."""


class CopyFailed(StoreUnavailable):
    """A copy of the store could not be made; the partial copy was removed, the store itself continues.

    :param full: the disk is full.
    """

    def __init__(self, text: str, *, full: bool = False) -> None:
        super().__init__(text)
        self.full = full


class OutcomeUnknown(OneshotError):
    """The connection to a database was lost at COMMIT: all of a transaction was done, or nothing."""
