"""Events of Alertmanager's event recorder, one by one and in batches."""

from __future__ import annotations

import pytest
from support.hook_payloads import RECORDED, SILENCE, Payload, recorded, recorded_alert
from support.preset_driver import Log, details, events_of, labels, translate

from oneshotd.errors import Refused

OF_ALERT = {"alertname": "DiskFull", "severity": "page", "host": "db1"}

#: Kind -> labels but ``type``, some details, value.
EXPECTED: dict[str, tuple[dict[str, str], dict[str, str], str | None]] = {
    "alertmanagerStartupEvent": ({"event": "startup", "version": "0.34.0"}, {"instance": "am-1"}, None),
    "alertmanagerShutdownEvent": ({"event": "shutdown"}, {"time": "2026-11-28T10:00:01.000000123Z"}, None),
    "alertCreated": (
        {"event": "alert_created", **OF_ALERT},
        {"from": "2026-11-28T10:00:00Z", "summary": "/var on db1 is full"},
        None,
    ),
    "alertGrouped": ({"event": "alert_grouped", "receiver": "pager", **OF_ALERT}, {}, None),
    "alertResolved": (
        {"event": "alert_resolved", "receiver": "pager", **OF_ALERT},
        {"from": "2026-11-28T10:00:00Z", "end": "2026-11-28T10:05:00Z"},
        "300",
    ),
    "notification": (
        {
            "event": "notification",
            "receiver": "pager",
            "integration": "webhook",
            "reason": "first_notification",
            "alertname": "DiskFull",
        },
        {"alerts": "1", "firing": "1", "resolved": "0", "muted": "0", "group": '{}:{alertname="DiskFull"}'},
        None,
    ),
    "silenceCreated": (
        {"event": "silence_created"},
        {
            "text": "the disk is being replaced",
            "by": "ann",
            "matchers": 'host="db1", severity=~"p.*"',
            "end": "2026-11-28T12:00:00Z",
            "silence": "a3b1c2d4-0000-4000-8000-000000000002",
        },
        None,
    ),
    "silenceUpdated": ({"event": "silence_updated"}, {"by": "ann"}, None),
    "silenceMutedAlert": (
        {"event": "silence_muted_alert", "alertname": "DiskFull", "host": "db1"},
        {"silence": "a3b1c2d4-0000-4000-8000-000000000002"},
        None,
    ),
    "inhibitionMutedAlert": (
        {"event": "inhibition_muted_alert", "alertname": "DiskFull", "host": "db1"},
        {"inhibit_rules": "down"},
        None,
    ),
}


def test_each_kind_of_the_recorder_is_expected() -> None:
    """A kind would not be tested."""
    assert set(EXPECTED) == set(RECORDED)


@pytest.mark.parametrize("kind", RECORDED)
def test_a_recorded_event_is_one_event(kind: str) -> None:
    """What has happened in Alertmanager could not be counted."""
    (event,) = events_of(translate("alertmanager", recorded(kind, RECORDED[kind])))
    expected, some, value = EXPECTED[kind]
    assert labels(event) == {"type": "alertmanager", **expected}
    assert some.items() <= details(event).items()
    assert event.value == value


def test_a_batch_is_as_many_events() -> None:
    """With batch: true all events but one would be lost."""
    batch = [recorded(kind, data) for kind, data in RECORDED.items()]
    translation = translate("alertmanager", batch)
    assert (len(events_of(translation)), translation.ignored) == (len(RECORDED), 0)
    assert Log().append(translation.group).stored == len(RECORDED)
    single = [events_of(translate("alertmanager", item))[0] for item in batch]
    assert events_of(translation) == single


def test_an_empty_batch_is_nothing() -> None:
    """Alertmanager would try it three times and drop it."""
    assert translate("alertmanager", []).group is None


@pytest.mark.parametrize(
    ("kind", "once"),
    [
        ("alertCreated", True),
        ("alertGrouped", True),
        ("alertResolved", True),
        ("silenceCreated", True),
        ("silenceUpdated", True),
        ("alertmanagerStartupEvent", False),
        ("alertmanagerShutdownEvent", False),
        ("notification", False),
        ("silenceMutedAlert", False),
        ("inhibitionMutedAlert", False),
    ],
)
def test_what_both_peers_record_of_one_fact_counts_once(kind: str, once: bool) -> None:
    """A pair would count each alert twice; or what each peer has done itself once."""
    log = Log()
    first = recorded(kind, RECORDED[kind])
    other = recorded(kind, RECORDED[kind], instance="am-2", time="2026-11-28T10:00:01.5Z")
    for payload in (first, other, [first, other]):
        log.append(translate("alertmanager", payload).group)
    assert len(log.events) == (1 if once else 2)


def test_an_alert_that_fires_again_counts_again() -> None:
    """A second firing would be a duplicate of the first."""
    batch = [
        recorded("alertCreated", {"alert": recorded_alert(startsAt=f"2026-11-28T1{hour}:00:00Z")})
        for hour in range(3)
    ]
    assert Log().append(translate("alertmanager", batch).group).stored == 3


def test_a_silence_that_is_changed_twice_counts_twice() -> None:
    """The second change would be a duplicate of the first."""
    batch = [
        recorded("silenceUpdated", {"silence": {**SILENCE, "updatedAt": f"2026-11-28T10:0{minute}:00Z"}})
        for minute in range(2)
    ]
    assert Log().append(translate("alertmanager", batch).group).stored == 2


@pytest.mark.parametrize(
    "data",
    [{}, None, {"alertForgotten": {}}, {"alertCreated": None}],
)
def test_kinds_of_later_versions_are_left_out(data: object) -> None:
    """A newer Alertmanager would lose its whole batch."""
    unknown = {"@timestamp": "2026-11-28T10:00:00Z", "instance": "am-1", "data": data or {}}
    translation = translate("alertmanager", [unknown, recorded("alertCreated", RECORDED["alertCreated"])])
    assert (len(events_of(translation)), translation.ignored) == (1, 1)


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (
            [recorded("alertCreated", {"alert": []})],
            "expected an object at /0/data/alertCreated/alert, got an array",
        ),
        (
            recorded("silenceCreated", {"silence": "x"}),
            "expected an object at /data/silenceCreated/silence, got",
        ),
        (
            recorded("alertCreated", {"alert": recorded_alert(labels={"labels": {"a": "b"}})}),
            "expected an array at /data/alertCreated/alert/labels/labels, got an object",
        ),
        (["x"], "expected an object at /0, got a string"),
        ([{"data": "x"}], "expected an object at /0/data, got a string"),
        (
            [{"data": {"alertCreated": {}, "notification": {}}}],
            "expected one member at /0/data, got 2: 'alertCreated', 'notification'",
        ),
        ({"data": []}, "expected an object at /data, got an array"),
    ],
)
def test_what_is_no_recorded_event_is_refused(payload: Payload, text: str) -> None:
    """The operator would not know what is wrong with the sender."""
    with pytest.raises(Refused) as caught:
        translate("alertmanager", payload)
    assert caught.value.text.startswith(text)
