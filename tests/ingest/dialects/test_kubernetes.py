"""Kubernetes Events: how often something has happened, whatever form an exporter sends."""

from __future__ import annotations

import pytest
from support.hook_payloads import Payload, encoded, kubernetes_event, new_kubernetes_event
from support.preset_driver import HOLD, NOW, Log, details, events_of, labels, translate

from oneshotd.core.parsing.formats import MAX_EVENTS
from oneshotd.errors import Refused

#: When the events of the payloads began: 2026-11-28T09:00:00Z.
BEGUN = NOW - 3600


def stored(*payloads: object, now: float = NOW, hold: float = HOLD) -> list[int]:
    """Return how many events each payload stores, one after the other."""
    log = Log()
    groups = [translate("kubernetes", payload, now=now, hold=hold).group for payload in payloads]
    return [log.append(group).stored for group in groups]


def test_an_event_of_core_v1() -> None:
    """What happens in a cluster could not be counted by reason."""
    (event,) = events_of(translate("kubernetes", kubernetes_event()))
    assert labels(event) == {
        "type": "kubernetes",
        "severity": "Warning",
        "reason": "BackOff",
        "kind": "Pod",
        "namespace": "apps",
        "component": "kubelet",
        "cluster": "blue",
    }
    assert details(event) == {
        "time": "2026-11-28T09:00:00Z",
        "end": "2026-11-28T09:02:00Z",
        "name": "shop-5d4f-xk2",
        "field": "spec.containers{shop}",
        "host": "node-3",
        "text": "Back-off restarting failed container shop",
    }
    assert event.value is None


def test_an_event_of_events_k8s_io() -> None:
    """What newer components report would be refused, or have no labels."""
    (event,) = events_of(translate("kubernetes", new_kubernetes_event()))
    assert labels(event) == {
        "type": "kubernetes",
        "severity": "Warning",
        "reason": "FailedScheduling",
        "kind": "Pod",
        "namespace": "apps",
        "component": "default-scheduler",
    }
    assert details(event) == {
        "time": "2026-11-28T09:01:00.123456Z",
        "end": "2026-11-28T09:05:00.000001Z",
        "name": "shop-5d4f-xk2",
        "action": "Scheduling",
        "text": "0/3 nodes are available",
    }


def test_a_count_that_grows_is_as_many_occurrences() -> None:
    """A crash loop would count once, or once a message."""
    counts = (3, 7, 7, 5, 8)
    assert stored(*map(kubernetes_event, counts)) == [3, 4, 0, 0, 1]
    assert stored(*map(new_kubernetes_event, counts)) == [3, 4, 0, 0, 1]
    assert stored([kubernetes_event(count) for count in counts]) == [8]


def test_two_exporters_count_once() -> None:
    """A second exporter, or a retry, would double every count."""
    assert stored(*[kubernetes_event(count) for count in (1, 1, 2, 2, 2)]) == [1, 0, 1, 0, 0]


@pytest.mark.parametrize(
    ("payload", "count"),
    [
        (kubernetes_event(1), 1),
        (kubernetes_event(5), 5),
        (kubernetes_event(5, firstTimestamp="2026-11-27T10:00:00Z"), 5),  # as old as the hold
        (kubernetes_event(5, firstTimestamp="2026-11-27T09:59:59Z"), 1),
        (kubernetes_event(5, firstTimestamp="2026-12-28T10:00:00Z"), 5),  # a clock that is ahead
        (kubernetes_event(5, firstTimestamp=None), 5),  # its object is young
        (kubernetes_event(5, firstTimestamp=None, metadata={"uid": "u"}), 1),
        (kubernetes_event(5, firstTimestamp="0001-01-01T00:00:00Z", metadata={"uid": "u"}), 1),
        (kubernetes_event(0), 1),
        (kubernetes_event(count=None), 1),  # type: ignore[arg-type]
        (new_kubernetes_event(None), 1),
        (new_kubernetes_event(6), 6),
        (new_kubernetes_event(None, deprecatedCount=4), 4),
        (new_kubernetes_event(6, eventTime="2026-11-01T00:00:00Z"), 1),
        (kubernetes_event(2_000_000_000), 1000),
    ],
)
def test_the_first_count_is_taken_if_all_of_it_is_young(payload: Payload, count: int) -> None:
    """An exporter that starts would count again what was counted a week ago; or a burst would count once."""
    assert stored(payload) == [count]


@pytest.mark.parametrize(("days", "count"), [(7, 5), (8, 1)])
def test_a_count_is_young_only_as_long_as_states_are_kept(days: int, count: int) -> None:
    """With a hold of a month, an event would count again whose count has been forgotten."""
    assert stored(kubernetes_event(5), now=BEGUN + days * 86_400, hold=30 * 86_400.0) == [count]


def test_the_hold_is_what_the_daemon_keeps() -> None:
    """A state would be forgotten before the events that it has counted."""
    group = translate("kubernetes", kubernetes_event()).group
    assert group is not None
    assert [change.seconds for change in group.states if hasattr(change, "seconds")] == [HOLD]


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ([kubernetes_event(1), new_kubernetes_event(1)], (2, 0)),
        ({"kind": "List", "apiVersion": "v1", "items": [kubernetes_event(1)]}, (1, 0)),
        ({"kind": "EventList", "items": []}, (0, 0)),
        ({"kind": "EventList"}, (0, 0)),
        ([], (0, 0)),
        ({"type": "ADDED", "object": kubernetes_event(1)}, (1, 0)),
        ({"type": "MODIFIED", "object": {"kind": "Event", **kubernetes_event(1)}}, (1, 0)),
        ({"type": "DELETED", "object": kubernetes_event(1)}, (0, 1)),
        ({"type": "BOOKMARK", "object": {"kind": "Event", "metadata": {}}}, (0, 1)),
        ({"verb": "UPDATED", "event": kubernetes_event(2), "old_event": kubernetes_event(1)}, (2, 0)),
        ([{"type": "DELETED", "object": {}}, kubernetes_event(1)], (1, 1)),
    ],
)
def test_each_form_of_exporters_is_read(payload: object, expected: tuple[int, int]) -> None:
    """An exporter that sends batches, or a watch, would be refused."""
    translation = translate("kubernetes", payload)
    assert (Log().append(translation.group).stored, translation.ignored) == expected


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ({}, "expected a text at /metadata/uid, got none"),
        (kubernetes_event(metadata={"name": "x"}), "expected a text at /metadata/uid, got none"),
        (kubernetes_event(metadata="x"), "expected an object at /metadata, got a string"),
        ([kubernetes_event(), "x"], "expected an object at /1, got a string"),
        (
            {"items": [kubernetes_event(involvedObject=[])]},
            "expected an object at /items/0/involvedObject, got",
        ),
        ({"kind": "Pod", "metadata": {"uid": "u"}}, "expected an Event or an EventList at /kind, got 'Pod'"),
        (
            {"type": "ERROR", "object": {"kind": "Status", "code": 410}},
            "expected an Event or an EventList at /object/kind, got 'Status'",
        ),
        (kubernetes_event(-1), "expected a whole number at /count, got '-1'"),
        (kubernetes_event(series={"count": "7"}), "expected a number at /series/count, got a string"),
        (encoded(kubernetes_event())[:50], "not JSON: "),
    ],
)
def test_what_is_no_event_is_refused(payload: object, text: str) -> None:
    """The operator would not know what is wrong with the exporter."""
    with pytest.raises(Refused) as caught:
        translate("kubernetes", payload)
    assert caught.value.text.startswith(text)


def test_lists_within_a_batch_are_bounded_together() -> None:
    """A request of a few kilobytes could become a hundred million events."""
    half = {"items": [kubernetes_event()] * (MAX_EVENTS // 2 + 1)}
    with pytest.raises(Refused) as caught:
        translate("kubernetes", [half, half])
    assert caught.value.status == 413
