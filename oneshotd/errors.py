"""The two families of errors: theirs (`Refused`, with a status) and ours (`OneshotError`).

`Refused` is translated into an answer in one place (`web/error_responses.py`) and into a counter in
`udp/datagrams.py`; `OneshotError` ends the start of the daemon, or becomes a 503.
"""

from __future__ import annotations

#: Every reason with which something is refused; a label of a metric, hence a closed set.
REASONS = (
    "busy",  # back-pressure: the queue to the store is full
    "conflict",  # an idempotency key was seen with other content
    "empty",  # nothing in it that could be an event
    "encoding",  # not UTF-8, or a broken percent escape
    "forbidden",  # the client's address, or another site's page
    "key",  # a malformed idempotency key
    "label",  # a label's name
    "limit",  # too many labels, too long a name or value, too many events, too large a body
    "name",  # a metric name that is illegal or taken
    "query",  # a parameter of a scrape that is no name, number or mode
    "store",  # the store cannot take it now
    "syntax",  # not the form it claims to have
    "timeout",  # a request that was not complete in time
    "type",  # an unknown body type
    "value",  # a sample value that is not a number
)


class Refused(Exception):
    """What a client sent is not taken: what, where and why, in one line of text.

    :param text: one line for a person, without a full stop at its end.
    :param reason: one of `REASONS`.
    :param status: the HTTP status that says the same.
    """

    def __init__(self, text: str, *, reason: str, status: int = 400) -> None:
        if reason not in REASONS:
            raise ValueError(f"reason: expected one of {REASONS}, got {reason!r}")
        super().__init__(text)
        self.text = text
        self.reason = reason
        self.status = status


class OneshotError(Exception):
    """Something on our side is wrong; the text says what, for the operator."""


class ConfigError(OneshotError):
    """An option or the configuration file is wrong; the daemon does not start."""


class StoreRefused(OneshotError):
    """The store is not ours, too new, held by another, or cannot be opened: do not start."""


class StoreUnavailable(OneshotError):
    """The store cannot write at this moment (disk full, I/O error); nothing was stored."""


class CopyFailed(StoreUnavailable):
    """A copy of the store could not be made; nothing of it is left, and the store itself goes on.

    :param full: there is no room for it.
    """

    def __init__(self, text: str, *, full: bool = False) -> None:
        super().__init__(text)
        self.full = full
