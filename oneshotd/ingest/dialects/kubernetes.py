"""Kubernetes `Event` objects, as exporters post them.

| form of the body | by |
|---|---|
| an Event of core/v1 or events.k8s.io/v1 | kubernetes-event-exporter |
| an array of them | exporters that collect batches |
| a list (``items``) | ``kubectl get events -o json`` |
| ``{"type": "ADDED", "object": …}`` | a watch; ``{"verb": …, "event": …}``: eventrouter |

A cluster counts repetitions in the object itself: it is sent again with a greater count. What the count has
grown by is how often the event is stored.
"""

from __future__ import annotations

from collections.abc import Iterator

from oneshotd.core.events import MAX_STATE_SECONDS, Count, Group, NewEvent
from oneshotd.core.parsing.formats import MAX_EVENTS
from oneshotd.core.parsing.grammar import quoted
from oneshotd.errors import Refused
from oneshotd.ingest.dialects.fitting import make_event
from oneshotd.ingest.dialects.json_objects import JSONObject, read_objects
from oneshotd.ingest.dialects.keys import event_key, state_key
from oneshotd.ingest.dialects.times import nanoseconds, rfc3339
from oneshotd.ingest.dialects.translation import Context, Message, Translation

NAME = "kubernetes"

#: What a watch says of an object that is gone or only a mark; eventrouter's verbs are the same.
_NOTHING_NEW = ("DELETED", "BOOKMARK")


def translate(message: Message, context: Context) -> Translation:
    """Translate Event objects."""
    found = [each for item in read_objects(message.body)[0] for each in _unwrapped(item)]
    if len(found) > MAX_EVENTS:
        raise Refused(f"there are more than {MAX_EVENTS} events", reason="limit", status=413)
    events: list[NewEvent] = []
    states: list[Count] = []
    ignored = 0
    for each in found:
        if each is None:
            ignored += 1
            continue
        event, state = _event(each, len(events), message, context)
        events.append(event)
        states.append(state)
    group = Group(events=events, states=states, keys_decide=True) if events else None
    return Translation(group=group, ignored=ignored)


def _unwrapped(item: JSONObject) -> Iterator[JSONObject | None]:
    """Yield the Event objects of an item; None for what says nothing new."""
    if item.has("object") or item.has("event"):
        inner, verb = ("object", "type") if item.has("object") else ("event", "verb")
        yield None if item.text(verb) in _NOTHING_NEW else item.object(inner)
    elif item.has("items"):
        yield from item.objects("items")
    elif item.text("kind").endswith("List"):
        return
    else:
        yield item


def _event(item: JSONObject, number: int, message: Message, context: Context) -> tuple[NewEvent, Count]:
    kind = item.text("kind")
    if kind not in ("", "Event"):
        where = f"{item.at}/kind"
        raise Refused(f"expected an Event or an EventList at {where}, got {quoted(kind)}", reason="syntax")
    metadata, source = item.object("metadata"), item.object("source")
    regards = item.object("involvedObject" if item.has("involvedObject") else "regarding")
    series = item.object("series")
    identity = metadata.needed("uid")
    count = max(1, item.whole("count"), item.whole("deprecatedCount"), series.whole("count"))
    begun = _first(
        item.text("firstTimestamp"),
        item.text("deprecatedFirstTimestamp"),
        item.text("eventTime"),
        metadata.text("creationTimestamp"),
    )
    latest = _first(
        series.text("lastObservedTime"), item.text("lastTimestamp"), item.text("deprecatedLastTimestamp")
    )
    event = make_event(
        [
            ("type", "kubernetes"),
            ("severity", item.text("type")),
            ("reason", item.text("reason")),
            ("kind", regards.text("kind")),
            ("namespace", regards.text("namespace") or metadata.text("namespace")),
            ("component", _component(item, source)),
            ("cluster", item.text("clusterName")),
        ],
        [
            ("time", rfc3339(begun)),
            ("end", rfc3339(latest)),
            ("name", regards.text("name")),
            ("field", regards.text("fieldPath")),
            ("action", item.text("action")),
            ("host", source.text("host") or item.object("deprecatedSource").text("host")),
            ("text", item.text("message") or item.text("note")),
        ],
        rules=context.rules,
        key=event_key(NAME, message.principal, identity, str(count)),
    )
    state = Count(
        event=number,
        key=state_key(NAME, message.principal, identity),
        count=count,
        unknown=count if _is_young(begun, context) else 1,
        seconds=context.hold,
    )
    return event, state


def _component(item: JSONObject, source: JSONObject) -> str:
    return (
        source.text("component")
        or item.object("deprecatedSource").text("component")
        or item.text("reportingComponent")
        or item.text("reportingController")
    )


def _first(*texts: str) -> str:
    """Return the first time that is known."""
    return next((text for text in texts if rfc3339(text)), "")


def _is_young(begun: str, context: Context) -> bool:
    """Whether a count of its first occurrence would be kept still; later ones may have been counted."""
    began = nanoseconds(begun)
    return began is not None and context.now - began / 1e9 <= min(context.hold, MAX_STATE_SECONDS)
