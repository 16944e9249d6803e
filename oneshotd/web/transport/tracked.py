"""The two sides between which `ack_tracker.AckTracker` stands: a delivery and its connection."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IPullProducer, IReactorTime

from oneshotd.web.transport.socket_state import SendQueue


class TrackedDelivery(Protocol):
    """The interface of `oneshotd.delivery.in_flight.InFlightDelivery`, which must not be imported here."""

    body: bytes

    @property
    def awaits_receipt(self) -> bool: ...

    def delivered(self) -> None: ...

    def returned(self, uncertain: bool, reset: bool = False) -> None: ...

    def revoked(self, uncertain: bool = False) -> None: ...

    def final(self) -> None: ...


class Connection(Protocol):
    """The interface of `oneshotd.web.transport.channel.Channel`, which imports the tracker."""

    @property
    def clock(self) -> IReactorTime: ...

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted."""

    @property
    def hides_end(self) -> bool:
        """Whether TLS is not `tls.TLSConnection`, so that a reset and a FIN look alike."""

    @property
    def is_closing(self) -> bool:
        """Whether bytes that are written may be dropped."""

    @property
    def holds_back(self) -> bool:
        """Whether TLS has bytes that it has not passed on, or would not pass on further ones."""

    @property
    def has_sent_notice(self) -> bool:
        """Whether TLS has sent bytes of its own after the responses (close_notify)."""

    @property
    def received(self) -> int:
        """Bytes of requests so far, decrypted."""

    @property
    def is_waiting(self) -> bool:
        """Whether no byte of a further request has been read."""

    def pull_from(self, producer: IPullProducer) -> None: ...

    def pull_no_more(self) -> None: ...

    def queue(self) -> SendQueue | None: ...

    def abort(self) -> None: ...
