"""One scrape as the scraper saw it, for the judgement and for whoever looks for a cause."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import Factory, define

#: Seconds after a scrape's timeout for which a reset still takes a delivery back
#: (docs/semantics.md; `oneshotd.web.transport.ack_tracker.RESET_GRACE`, which a judge does not import).
GRACE = 1.0

#: Identities shown of one exchange.
SHOWN = 5


@define(kw_only=True)
class Exchange:
    """A request and what came of it; times are monotonic seconds, None where it did not come so far.

    :param port: of the scraper's end.
    :param timeout: seconds that the scraper gives.
    :param asked: before the request's first byte.
    :param door: where it was asked, if there are several.
    :ivar first: the first bytes of the answer were there.
    :ivar ended: it was read to its last byte, or the connection was closed.
    :ivar size: bytes of the answer that came, head included.
    :ivar whole: the answer's last byte came, read or not.
    :ivar outcome: in words.
    :ivar finished: a FIN went out before the connection was closed.
    :ivar process: of the daemon, where the answer says.
    :ivar amounts: identity -> how many, of all lines that came.
    """

    port: int
    timeout: float
    asked: float
    door: str = ""
    first: float | None = None
    ended: float | None = None
    size: int = 0
    whole: bool = False
    outcome: str = "under way"
    finished: bool = False
    process: str = "?"
    amounts: Mapping[str, int] = Factory(dict)

    @property
    def is_excused(self) -> bool:
        """Whether the daemon need not take it for unread: a second after the timeout, or behind a FIN."""
        late = self.ended is not None and self.ended > self.asked + self.timeout + GRACE
        return self.finished or late

    def text(self, since: float) -> str:
        """All of it in one line.

        :param since: monotonic seconds from which times are shown.
        """
        first, ended = (
            "never" if moment is None else f"{moment - since:.3f}" for moment in (self.first, self.ended)
        )
        some = ", ".join(f"{n} of {identity}" for identity, n in list(self.amounts.items())[:SHOWN])
        return (
            f"port {self.port}{self.door and f' ({self.door})'}: asked {self.asked - since:.3f}"
            f" (timeout {self.timeout:g} s),"
            f" first byte {first}, {self.outcome} {ended};"
            f" {self.size} bytes{'' if self.whole else ', not whole'}, process {self.process},"
            f" {sum(self.amounts.values())} events"
            f"{f': {some}' if some else ''}{', …' if len(self.amounts) > SHOWN else ''}"
        )
