"""What a message would become: for ``oneshotctl try-hook`` and the status page. Nothing is stored."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import asdict, frozen

from oneshotd.core.events import End, Start, details_of
from oneshotd.core.text import escape_unprintable
from oneshotd.errors import Refused
from oneshotd.ingest.dialects.mapping import outcomes
from oneshotd.ingest.dialects.recipe import Recipe
from oneshotd.ingest.dialects.translation import Context, Message, Translation

#: Characters of a text that is shown on one line.
MAX_SHOWN = 200


@frozen(kw_only=True)
class TriedEvent:
    """An event that would be stored.

    :param path: the element of the body that it was made from, as a pointer; empty: the whole.
    :param key: the idempotency key that the store would get; None: each repetition counts.
    :param key_text: what the key was made from; None: a preset does not say.
    :param absent: the names of labels, details and ``value`` that found nothing.
    :param state: what the store does beside storing it; empty: nothing.
    """

    path: str = ""
    series: str
    value: str | None = None
    key: str | None = None
    key_text: str | None = None
    detail: Mapping[str, str] = {}
    absent: Sequence[str] = ()
    state: str = ""


@frozen(kw_only=True)
class Trial:
    """The result of a trial.

    :param ignored: (element as a pointer, why it was left out); a preset says their number only.
    :param refused: the refusal that the sender would get; None: the message would be taken.
    :param status: the HTTP status of the answer.
    """

    events: Sequence[TriedEvent] = ()
    ignored: Sequence[tuple[str, str]] = ()
    refused: str | None = None
    status: int = 200

    def as_json(self) -> dict[str, Any]:
        """Return the result as JSON has it."""
        return {
            "status": self.status,
            "refused": self.refused,
            "events": [asdict(event, recurse=False) for event in self.events],
            "ignored": [{"path": path, "why": why} for path, why in self.ignored],
        }

    def lines(self, most: int | None = None) -> Iterator[str]:
        """Yield the result as lines of text.

        :param most: events and left out elements that are shown of each; None: all.
        """
        if self.refused is not None:
            yield f"refused with {self.status}: {self.refused}"
            return
        for number, event in enumerate(self.events[:most], 1):
            at = f", from {_short(event.path)}" if event.path else ""
            yield f"event {number}{at}: {_short(event.series)} {event.value or 1}"
            if event.key is not None:
                made = "" if event.key_text is None else f" from {_short(event.key_text)}"
                yield f"    key{made}: {event.key}"
            else:
                yield "    no key: a repetition counts again"
            for name, text in event.detail.items():
                yield f"    detail.{name}: {_short(text)}"
            if event.absent:
                yield f"    found nothing for: {', '.join(event.absent)}"
            if event.state:
                yield f"    the store {event.state}"
        for path, why in self.ignored[:most]:
            yield f"left out{f' {_short(path)}' if path else ''}: {why}"
        yield f"{len(self.events)} events, {len(self.ignored)} left out"


def tried(recipe: Recipe, message: Message, context: Context, *, work: float = math.inf) -> Trial:
    """Return what a message would become by a recipe.

    :param work: see `mapping.outcomes`, which raises `Outgrown`.
    """
    try:
        if recipe.mapping is None:
            return _of_preset(recipe.translate(message, context))
        events, ignored = [], []
        for outcome in outcomes(recipe.mapping, recipe.name, message, context, work=work):
            if outcome.event is None:
                ignored.append((outcome.path, outcome.why))
                continue
            event = outcome.event
            events.append(
                TriedEvent(
                    path=outcome.path,
                    series=event.series,
                    value=event.value,
                    key=event.key,
                    key_text=outcome.key,
                    detail=details_of(event.detail),
                    absent=outcome.absent,
                )
            )
    except Refused as refused:
        return Trial(refused=refused.text, status=refused.status)
    return Trial(events=events, ignored=ignored)


def _of_preset(found: Translation) -> Trial:
    states: dict[int, str] = {}
    for state in () if found.group is None else found.group.states:
        does = "keeps its time" if isinstance(state, Start) else "counts it"
        states[state.event] = "gives it the seconds since its start" if isinstance(state, End) else does
    events = [
        TriedEvent(
            series=event.series,
            value=event.value,
            key=event.key,
            detail=details_of(event.detail),
            state=states.get(number, ""),
        )
        for number, event in enumerate(() if found.group is None else found.group.events)
    ]
    return Trial(events=events, ignored=[("", "the preset leaves it out")] * found.ignored)


def _short(text: str) -> str:
    return escape_unprintable(text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…")
