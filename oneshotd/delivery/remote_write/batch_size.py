"""The size of the next request, and the search for a sample that the receiver refuses. Pure.

Receivers refuse a whole request for one sample, and most do not say which. A refused request is halved: the
same pending events give its first half, then the first half of that, until a single sample is refused.
After each success the size doubles again. So k bad samples in a request cost about 2 k log2(size) requests.

A single sample is given up only if the receiver takes others. It may refuse all of them: VictoriaMetrics
answers 400 for a wrong path, and so does a server that speaks TLS since its last restart. So a request
without samples goes first, and shows whether the answer has to do with the sample; `PROVEN` of them are given
up then. A receiver that answers 500 may be in trouble. Where that leaves a doubt, the sample is put *aside*,
and others are tried; when one of them is taken, those aside are tried again, `CHANCES` times in all.

Some receivers (Prometheus 2.42) answer 500 for a bad sample. After `DOUBTS` such answers in a row the
request is halved, too.
"""

from __future__ import annotations

from oneshotd.delivery.remote_write.batching import MAX_BYTES, MAX_SAMPLES
from oneshotd.delivery.remote_write.verdicts import Verdict

#: Doubtful answers in a row after which requests are halved.
DOUBTS = 5

#: Attempts of a single sample before it is given up, if they are answered doubtfully, or if a request without
#: samples is refused, too; before each but the first the receiver has taken another sample.
CHANCES = 3

#: Samples that are given up after a request without samples was accepted, until another one is sent.
PROVEN = 20

#: Samples aside at most; then all of them are tried again.
MAX_ASIDE = 50


class BatchSize:
    """How many samples the next request of one receiver may have, and which events it passes over.

    :ivar samples: most samples of the next request.
    :ivar bytes: most bytes of the next request, before compression.
    :ivar aside: seqs of events that wait until the receiver has taken another one.
    :ivar wants_proof: the next request is to be one without samples.
    """

    def __init__(self) -> None:
        self.samples = self._most = MAX_SAMPLES
        self.bytes = MAX_BYTES
        self.aside: set[int] = set()
        self.wants_proof = False
        #: Seq -> its failed chances, and `_taken` at the last one.
        self._failed: dict[int, tuple[int, int]] = {}
        self._doubts = 0
        self._taken = 0  # requests accepted
        self._may_give_up = 0  # samples that are refused, one after the other

    def accepted(self, seqs: list[int]) -> None:
        """Note a request that was accepted."""
        self.samples = min(self._most, 2 * self.samples)
        self._doubts = 0
        self._taken += 1
        self._may_give_up = 0
        self.aside.clear()
        for seq in seqs if self._failed else ():
            self._failed.pop(seq, None)

    def gives_up(self, verdict: Verdict, seqs: list[int], size: int) -> bool:
        """Note a request that was not accepted; return whether its one sample is given up.

        :param size: its bytes before compression.
        """
        if verdict is Verdict.REFUSED:
            return self.refused(seqs)
        if verdict is Verdict.TOO_LARGE:
            return self.too_large(len(seqs), size)
        return verdict is Verdict.DOUBTFUL and self.doubtful(seqs)

    def refused(self, seqs: list[int]) -> bool:
        """Note a request that was refused; return whether its one sample is given up."""
        self._doubts = 0
        if self.halve(len(seqs)):
            return False
        if self._may_give_up:
            self._may_give_up -= 1
            return True
        self.wants_proof = True
        return self._put_aside(seqs[0])

    def proof(self, accepted: bool) -> None:
        """Note the answer to a request without samples."""
        self.wants_proof = False
        if accepted:
            self._may_give_up = PROVEN
            self.aside.clear()

    def too_large(self, samples: int, size: int) -> bool:
        """Note a request that is too large; return whether its one sample is given up.

        :param size: its bytes before compression.
        """
        if not self.halve(samples):
            return True
        self._most, self.bytes = self.samples, max(1, min(self.bytes, size // 2))
        return False

    def doubtful(self, seqs: list[int]) -> bool:
        """Note a doubtful answer; return whether the request's one sample is given up."""
        if not self.doubt() or self.halve(len(seqs)):
            return False
        return self._put_aside(seqs[0])

    def doubt(self) -> bool:
        """Count a doubtful answer; return whether the request is to be halved."""
        self._doubts += 1
        return self._doubts >= DOUBTS

    def gave_up(self, seq: int) -> None:
        """Forget an event that was given up."""
        self.aside.discard(seq)
        self._failed.pop(seq, None)

    def halve(self, samples: int) -> bool:
        """Halve the size of a request; return whether that makes the next one smaller."""
        self.samples = max(1, samples // 2)
        return samples > 1

    def _put_aside(self, seq: int) -> bool:
        """Put an event aside; return whether it has had its chances."""
        failed, taken = self._failed.get(seq, (0, -1))
        if taken < self._taken:
            failed += 1
            self._failed[seq] = failed, self._taken
        if failed >= CHANCES:
            return True
        if len(self.aside) >= MAX_ASIDE:
            self.aside.clear()
        self.aside.add(seq)
        return False
