"""Notifications of Alertmanager's webhook become one event an alert, counted once."""

from __future__ import annotations

import pytest
from support.hook_payloads import ZERO_TIME, Payload, alert, notification
from support.preset_driver import Log, details, events_of, labels, translate

from oneshotd.core.parsing.formats import MAX_EVENTS, Rules
from oneshotd.errors import Refused


def one(payload: object) -> tuple[dict[str, str], dict[str, str], str | None]:
    """Return labels, details and value of the only event."""
    (event,) = events_of(translate("alertmanager", payload))
    return labels(event), details(event), event.value


def test_an_alert_that_fires_is_one_event() -> None:
    """A firing alert could not be counted, or told from another one."""
    assert one(notification(alert())) == (
        {
            "type": "alert",
            "status": "firing",
            "alertname": "DiskFull",
            "severity": "page",
            "host": "db1",
            "mountpoint": "/var",
        },
        {
            "time": "2026-11-28T10:00:00.25Z",
            "url": "https://prometheus.test/graph?g0.expr=disk",
            "alertmanager": "https://alertmanager.test",
            "receiver": "oneshotd",
            "summary": "/var on db1 is full",
            "runbook_url": "https://wiki.test/disk",
        },
        None,
    )


def test_a_resolved_alert_has_the_seconds_for_which_it_fired() -> None:
    """Nobody would see how long an alert has fired."""
    found, beside, value = one(notification(alert("resolved")))
    assert (found["status"], beside["end"], value) == ("resolved", "2026-11-28T10:07:30.5Z", "450.25")


@pytest.mark.parametrize(
    ("start", "end", "value"),
    [
        ("2026-11-28T10:00:00Z", ZERO_TIME, None),
        ("2026-11-28T10:00:00Z", "2026-11-28T09:59:59Z", None),
        ("soon", "2026-11-28T09:59:59Z", None),
        (None, "2026-11-28T09:59:59Z", None),
        ("2026-11-28T10:00:00+00:00", "2026-11-28T11:00:00.5+01:00", "0.5"),
    ],
)
def test_times_that_say_nothing_give_no_value(start: str | None, end: str, value: str | None) -> None:
    """A negative length, or one of two thousand years, would spoil every average."""
    assert one(notification(alert("resolved", startsAt=start, endsAt=end)))[2] == value


def test_repeats_and_the_second_peer_count_once() -> None:
    """Each repeat_interval, and each peer of a pair, would count the alert again."""
    log = Log()
    first = log.append(translate("alertmanager", notification(alert())).group)
    assert (first.stored, first.duplicates) == (1, 0)
    again = notification(
        alert(annotations={"summary": "another text"}),
        receiver="other",
        externalURL="https://second.test",
        commonAnnotations={"x": "y"},
    )
    assert log.append(translate("alertmanager", again).group).duplicates == 1
    resolved = notification(alert(), alert("resolved"), alert("resolved", endsAt="2026-11-28T10:09:00Z"))
    stored = log.append(translate("alertmanager", resolved).group)
    assert (stored.stored, stored.duplicates) == (1, 2)
    assert [labels(event)["status"] for event in log.events] == ["firing", "resolved"]


@pytest.mark.parametrize(
    "other",
    [
        {"startsAt": "2026-11-28T11:00:00Z"},
        {"fingerprint": "0000000000000001"},
        {"status": "resolved"},
    ],
)
def test_another_firing_or_alert_is_another_event(other: Payload) -> None:
    """An alert that fires again would not be counted."""
    group = translate("alertmanager", notification(alert(), {**alert(), **other})).group
    assert Log().append(group).stored == 2


def test_senders_of_two_access_rules_have_keys_of_their_own() -> None:
    """A sender could make another one's alert a duplicate."""
    log = Log()
    for principal in ("rule ann", "rule bob"):
        log.append(translate("alertmanager", notification(alert()), principal=principal).group)
    assert len(log.events) == 2


def test_an_alert_without_a_fingerprint_is_told_by_its_labels() -> None:
    """Versions before 0.19 send none, and all of their alerts would be one."""
    first, second = alert(fingerprint=None), alert(fingerprint=None, labels={"alertname": "Down"})
    log = Log()
    log.append(translate("alertmanager", notification(first, second)).group)
    assert log.append(translate("alertmanager", notification(first)).group).duplicates == 1
    assert len(log.events) == 2


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {}),
        (None, {}),
        (
            {"type": "ssd", "status": "bad", "value": "7", "alertname": "A"},
            {"alertname": "A", "alert_type": "ssd", "alert_status": "bad", "alert_value": "7"},
        ),
        ({"my.label": "x", "größe": "y", "__z": "w"}, {"my_label": "x", "gr__e": "y", "z": "w"}),
        ({"n": 5, "b": True, "e": ""}, {"n": "5", "b": "true"}),
        ({"quote": 'a"b\\c\r\nd'}, {"quote": 'a"b\\c\nd'}),
    ],
)
def test_all_labels_of_the_alert_are_labels(given: object, expected: dict[str, str]) -> None:
    """A label of a rule would be lost, or stand for the event's own."""
    found = one(notification(alert(labels=given)))[0]
    assert found == {"type": "alert", "status": "firing", **expected}


def test_narrow_limits_keep_the_important_labels() -> None:
    """With --max-labels 4 every notification would be refused."""
    many = {**{f"l{number:03}": "x" * 9000 for number in range(200)}, "alertname": "A", "severity": "page"}
    payload = notification(alert(labels=many))
    (event,) = events_of(translate("alertmanager", payload, rules=Rules(max_labels=4, max_value=30)))
    assert list(labels(event)) == ["alertname", "severity", "status", "type"]
    (event,) = events_of(translate("alertmanager", payload))
    assert len(labels(event)) == 64


def test_annotations_are_details_however_many_and_long() -> None:
    """An alert with a long description would be refused."""
    texts = {**{f"a{number:03}": "ü" * 500 for number in range(200)}, "summary": "S", "time": "T", "9.x": "N"}
    beside = one(notification(alert(annotations=texts)))[1]
    assert (beside["summary"], beside["time"]) == ("S", "2026-11-28T10:00:00.25Z")
    assert beside["_9_x"] == "N"
    assert one(notification(alert(annotations={"time": "T"})))[1]["annotation_time"] == "T"


def test_what_max_alerts_has_cut_off_counts_as_ignored() -> None:
    """Alerts that are missing would be missing without a trace."""
    translation = translate("alertmanager", notification(alert(), truncatedAlerts=17))
    assert (len(events_of(translation)), translation.ignored) == (1, 17)
    assert details(events_of(translation)[0])["truncated"] == "17"


def test_a_notification_without_alerts_is_nothing() -> None:
    """An empty group would be repeated for ever."""
    translation = translate("alertmanager", notification())
    assert (translation.group, translation.ignored) == (None, 0)


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (
            {},
            "expected an array at /alerts (Alertmanager's webhook) or an object at /data (event recorder)",
        ),
        ({"alerts": None}, "expected an array at /alerts (Alertmanager"),
        ({"text": "hello"}, "expected an array at /alerts (Alertmanager"),
        (notification(version="3"), "expected version '4' at /version, got '3'"),
        (notification(version=None), "expected version '4' at /version, got ''"),
        (notification(alerts={}), "expected an array at /alerts, got an object"),
        (notification(alerts=["DiskFull"]), "expected an object at /alerts/0, got a string"),
        (
            notification(alert(), alert(labels="DiskFull")),
            "expected an object at /alerts/1/labels, got a string",
        ),
        (notification(alert(labels={"a": []})), "expected a text at /alerts/0/labels/a, got an array"),
        (notification(alert(status="")), "expected a text at /alerts/0/status, got none"),
        (notification(alert(annotations=[])), "expected an object at /alerts/0/annotations, got an array"),
        (notification(truncatedAlerts=-1), "expected a whole number at /truncatedAlerts, got '-1'"),
        (notification(truncatedAlerts="many"), "expected a number at /truncatedAlerts, got a string"),
        (b'{"version": "4", "alerts": [', "not JSON: "),
        (b"<13>alert", "not JSON: "),
        (b"\xff\xfe{", "the JSON is not UTF-8"),
        (b"", "not JSON: "),
    ],
)
def test_what_is_no_notification_is_refused_with_a_reason(payload: object, text: str) -> None:
    """The operator would not know what is wrong with the sender."""
    with pytest.raises(Refused) as caught:
        translate("alertmanager", payload)
    assert caught.value.text.startswith(text)
    assert caught.value.status == 400


def test_too_many_alerts_are_refused_as_too_large() -> None:
    """One request could hold the store for seconds."""
    with pytest.raises(Refused) as caught:
        translate("alertmanager", notification(*[alert()] * (MAX_EVENTS + 1)))
    assert caught.value.status == 413


def test_what_all_alerts_have_in_common_is_cut_once() -> None:
    """A notification of 200 KB would take seconds, and become 8 MB."""
    sent = notification(*[alert() for _ in range(3)], externalURL="x" * 100_000)
    for event in events_of(translate("alertmanager", sent)):
        assert details(event)["alertmanager"] == "x" * 253 + "…"
