"""Why an event that the receiver refuses is lost: whether it may have been stored all the same. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from oneshotd.store.interface import Reservation

#: Reasons of losses, beside those of `encoding`: refused; refused after an attempt of unknown outcome;
#: answered as accepted by a receiver that throws it away (202).
REFUSED, UNCERTAIN, DISCARDED = "refused", "uncertain", "discarded"


class Attempts:
    """The attempts of unknown outcome at one receiver."""

    def __init__(self) -> None:
        self._seqs: set[int] = set()
        self._before = 0

    def begin(self, reservation: Reservation) -> None:
        """Note that an earlier run, or another daemon, may have sent any of the events that exist now."""
        pending = reservation.pending
        self._seqs.clear()
        self._before = reservation.remaining + pending.cursor - pending.owed_total + len(pending)

    def unknown(self, seqs: Sequence[int], oldest: int) -> None:
        """Note an attempt of unknown outcome.

        :param oldest: seq of the oldest pending event. Older ones were given up after the hold; all that a
            receiver was sent while it was away for days would be remembered otherwise.
        """
        self._seqs = {seq for seq in self._seqs if seq >= oldest}
        self._seqs.update(seqs)

    def settled(self, seqs: Sequence[int]) -> None:
        """Forget events that are settled."""
        self._seqs.difference_update(seqs)

    def reason(self, seq: int) -> str:
        """Return the reason of the loss of an event that was refused."""
        return UNCERTAIN if seq in self._seqs or seq <= self._before else REFUSED
