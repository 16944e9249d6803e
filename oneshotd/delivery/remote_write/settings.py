"""The settings of one receiver."""

from __future__ import annotations

from attrs import field, frozen, validators

from oneshotd.core.identity import Visit

#: Seconds after an event's time at which its series ends in the receiver, unless the settings say other.
VISIBLE = 15.0

#: Seconds that a request may take, from its first byte to the end of the answer.
REQUEST_TIMEOUT = 30.0


@frozen(kw_only=True)
class ReceiverSettings:
    """The settings of one receiver on which the content of its requests depends.

    How requests reach it (address, headers, credentials, TLS) is the sender's affair.

    :param name: of the receiver, as that of a scraper (``?scraper=``).
    :param job: label of every sample; an event's own becomes ``exported_job``.
    :param instance: label of every sample; the same in all daemons that share a store. An event's own
        becomes ``exported_instance``.
    :param visible: seconds after an event at which a stale marker ends its series; 0: no markers.
    :param max_labels: most labels of a sample, ``__name__``, job and instance included; 0: any number. Events
        with more are lost for this receiver.
    :param max_label_value: most bytes of a label's value; 0: any number.
    :param replay: seconds whose accepted events are sent again after the receiver was away; 0: none.
    :param timeout: seconds for one request.
    """

    name: str
    job: str = "oneshotd"
    instance: str
    visible: float = field(default=VISIBLE, validator=validators.ge(0.0))
    max_labels: int = field(default=0, validator=validators.ge(0))
    max_label_value: int = field(default=0, validator=validators.ge(0))
    replay: float = field(default=0.0, validator=validators.ge(0.0))
    timeout: float = field(default=REQUEST_TIMEOUT, validator=validators.gt(0.0))

    @property
    def visit(self) -> Visit:
        """The receiver's identity in the store."""
        return Visit(name=self.name, named=True)
