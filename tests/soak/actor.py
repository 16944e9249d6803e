"""What senders and scrapers have in common: a thread with dice of its own, which ends when told."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Generic, TypeVar

T = TypeVar("T")


class Bag(Generic[T]):
    """Draws without putting back until it is empty, so that no kind is left out by chance."""

    def __init__(self, dice: Random, kinds: Sequence[T]) -> None:
        self._dice = dice
        self._kinds = kinds
        self._rest: list[T] = []

    def draw(self) -> T:
        """The next one."""
        if not self._rest:
            self._rest = self._dice.sample(self._kinds, len(self._kinds))
        return self._rest.pop()


class Actor(threading.Thread):
    """Takes turns until it is over.

    :param seed: of the campaign; each actor's choices follow from it and the actor's name.
    :ivar over: set it to end the actor after its turn.
    :ivar failure: the traceback of what ended it before.
    """

    def __init__(self, name: str, seed: int) -> None:
        super().__init__(name=name, daemon=True)
        self.dice = Random(f"{seed}/{name}")
        self.over = threading.Event()
        self._held = threading.Event()
        self._still = threading.Event()
        self.failure: str | None = None

    def run(self) -> None:
        """Turn after turn."""
        try:
            while not self.over.is_set():
                if self._held.is_set():
                    self._still.set()
                    self.over.wait(0.02)
                else:
                    self.turn()
        except Exception:
            self.failure = f"{self.name}: {traceback.format_exc()}"
        finally:
            self.leave()

    def hold(self) -> None:
        """Take no further turn until `go_on`."""
        self._still.clear()
        self._held.set()

    def is_still(self, seconds: float) -> bool:
        """Wait until the turn that was under way at `hold` is over."""
        return self._still.wait(seconds)

    def go_on(self) -> None:
        """Take turns again."""
        self._held.clear()

    def turn(self) -> None:
        """One piece of work, bounded in time."""
        raise NotImplementedError

    def leave(self) -> None:
        """Let go of what is held."""

    def rest(self, took: float) -> None:
        """Pause in proportion to how long the work took: who is slow to answer is asked less."""
        self.over.wait(min(1.0, max(0.01, took * self.dice.uniform(1.0, 4.0))))


@contextmanager
def working(actors: Sequence[Actor], note_wrong: Callable[[str], object], patience: float) -> Iterator[None]:
    """Let actors work within the context.

    :param note_wrong: told of each that failed, or did not end.
    :param patience: seconds for one to end.
    """
    for actor in actors:
        actor.start()
    try:
        yield
    finally:
        for actor in actors:
            actor.over.set()
        for actor in actors:
            actor.join(patience)
            if actor.is_alive():
                note_wrong(f"{actor.name} does not end")
            if actor.failure:
                note_wrong(actor.failure)
