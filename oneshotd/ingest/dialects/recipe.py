"""How the messages of a hook become events: by a preset or a mapping, from the tables of its file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve, frozen

from oneshotd.core.events import NewEvent, labels_of, metric_of, series_text
from oneshotd.core.parsing.formats import MAX_EVENTS, Rules
from oneshotd.core.toml_values import shown
from oneshotd.errors import Refused
from oneshotd.ingest.dialects.mapping import JSON, MAX_CHARACTERS, EventMapping, translate
from oneshotd.ingest.dialects.mapping_file import parse_labels, parse_mapping
from oneshotd.ingest.dialects.pointers import Constant
from oneshotd.ingest.dialects.registry import PRESETS
from oneshotd.ingest.dialects.translation import Context, Message, Translation

#: `Recipe.weight` of the presets of which a body can have many events.
_BATCHES = {"alertmanager": 20, "cloudevents": 20, "kubernetes": 20}


@frozen(kw_only=True)
class Recipe:
    """How the messages of a hook become events.

    :param name: of the hook.
    :param tables: what it was made from; JSON can hold them.
    :param preset: the name of a dialect; None: by `mapping`.
    :param labels: constant ones, which the events of a preset get.
    """

    name: str
    tables: Mapping[str, Any]
    preset: str | None = None
    mapping: EventMapping | None = None
    labels: Mapping[str, str] = {}

    @property
    def form(self) -> str:
        """The form of its messages: a preset, or of a mapping."""
        return self.preset or ("" if self.mapping is None else self.mapping.form)

    @property
    def weight(self) -> int:
        """What each element of a body costs; 1: it is only decoded."""
        if self.mapping is None:
            return _BATCHES.get(self.preset or "", 1)
        return 1 if self.mapping.each is None and self.mapping.form == JSON else self.mapping.weight

    @classmethod
    def parse(cls, name: str, tables: Mapping[str, Any], limits: Rules | None = None) -> Recipe:
        """Make a recipe from the tables of a file.

        :param limits: of events.
        :raises ValueError: "KEY: expected …, got …".
        """
        if "preset" not in tables:
            return cls(name=name, tables=tables, mapping=parse_mapping(tables, limits))
        preset = tables["preset"]
        if preset not in list(PRESETS):
            raise ValueError(f"preset: expected one of {', '.join(sorted(PRESETS))}, got {shown(preset)}")
        for key in tables:
            if key not in ("preset", "labels"):
                raise ValueError(f"{key}: expected preset, labels and verify only, as preset is given")
        labels = {}
        if "labels" in tables:
            try:
                sources = parse_labels(tables["labels"], limits or Rules())
                for label, source in sources.items():
                    if not isinstance(source, Constant):
                        raise ValueError(f'{label}: expected a constant such as "=text", as preset is given')
                    labels[label] = source.text
            except ValueError as error:
                raise ValueError(f"labels: {error}") from None
        return cls(name=name, tables=tables, preset=preset, labels=labels)

    def translate(self, message: Message, context: Context, *, work: float = math.inf) -> Translation:
        """Translate a message.

        :param work: see `mapping.outcomes`; a preset repeats no text of its sender.
        :raises Refused: says what was expected, and what came instead.
        :raises Outgrown: it is more work.
        """
        if self.mapping is not None:
            return translate(self.mapping, self.name, message, context, work=work)
        assert self.preset is not None
        found = PRESETS[self.preset](message, context)
        if found.group is None:
            return found
        events = found.group.events
        if self.labels:
            events = [_labelled(event, self.labels, context.rules) for event in events]
            found = evolve(found, group=evolve(found.group, events=events))
        _check_size(events)
        return found


def _check_size(events: Sequence[NewEvent]) -> None:
    """See that a small body has not become too many or too long events, as each may repeat a common text."""
    if len(events) > MAX_EVENTS:
        raise Refused(f"there are more than {MAX_EVENTS} events", reason="limit", status=413)
    if sum(len(event.series) + len(event.detail) for event in events) > MAX_CHARACTERS:
        text = f"the events have more than {MAX_CHARACTERS} characters"
        raise Refused(text, reason="limit", status=413)


def _labelled(event: NewEvent, constants: Mapping[str, str], rules: Rules) -> NewEvent:
    labels = {**labels_of(event.series), **constants}
    if len(labels) > rules.max_labels:
        text = f"with those of the hook there are more than {rules.max_labels} labels"
        raise Refused(text, reason="limit")
    return event._replace(series=series_text(metric_of(event.series), labels.items()))
