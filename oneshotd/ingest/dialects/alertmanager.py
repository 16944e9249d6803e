"""Prometheus Alertmanager: notifications of its webhook (version 4), and events of its event recorder.

The webhook sends an object with ``alerts``; the recorder (``--enable-feature=event-recorder``, since 0.33) an
object with ``data``, or with ``batch: true`` (since 0.34) an array of these. See docs/dialects.md.
"""

from __future__ import annotations

from collections.abc import Sequence

from oneshotd.core.events import Group, NewEvent
from oneshotd.core.parsing.grammar import quoted
from oneshotd.errors import Refused
from oneshotd.ingest.dialects.alertmanager_events import NAME, alert_labels, annotation_details, recorded
from oneshotd.ingest.dialects.fitting import cut, make_event
from oneshotd.ingest.dialects.json_objects import JSONObject, read_objects
from oneshotd.ingest.dialects.keys import event_key
from oneshotd.ingest.dialects.times import rfc3339, seconds_between
from oneshotd.ingest.dialects.translation import Context, Message, Translation

#: The version of the webhook's format.
VERSION = "4"

#: Bytes of a text that all alerts of a notification have.
MAX_COMMON = 256


def translate(message: Message, context: Context) -> Translation:
    """Translate a notification, or recorded events."""
    items, is_batch = read_objects(message.body)
    if not is_batch and items[0].has("alerts"):
        return _notification(items[0], message, context)
    if not is_batch and not items[0].has("data"):
        raise Refused(
            "expected an array at /alerts (Alertmanager's webhook) or an object at /data (event recorder)",
            reason="syntax",
        )
    found = [recorded(item, message, context) for item in items]
    events = [event for event in found if event is not None]
    return _translation(events, len(found) - len(events))


def _notification(body: JSONObject, message: Message, context: Context) -> Translation:
    version = body.text("version")
    if version != VERSION:
        raise Refused(f"expected version {VERSION!r} at /version, got {quoted(version)}", reason="syntax")
    truncated = body.whole("truncatedAlerts")
    common = [
        ("alertmanager", cut(body.text("externalURL"), MAX_COMMON)),
        ("receiver", cut(body.text("receiver"), MAX_COMMON)),
        ("truncated", str(truncated) if truncated else ""),
    ]
    events = [_alert(alert, common, message, context) for alert in body.objects("alerts")]
    return _translation(events, truncated)


def _translation(events: list[NewEvent], ignored: int) -> Translation:
    return Translation(group=Group(events=events, keys_decide=True) if events else None, ignored=ignored)


def _alert(
    alert: JSONObject, common: Sequence[tuple[str, str]], message: Message, context: Context
) -> NewEvent:
    status = alert.needed("status")
    labels = alert.object("labels").texts()
    start, end = alert.text("startsAt"), alert.text("endsAt")
    resolved = status == "resolved"
    identity = alert.text("fingerprint") or "\n".join(f"{name}={labels[name]}" for name in sorted(labels))
    return make_event(
        [("type", "alert"), ("status", status), *alert_labels(labels, ("type", "status"))],
        [
            ("time", rfc3339(start)),
            ("end", rfc3339(end) if resolved else ""),
            ("url", alert.text("generatorURL")),
            *common,
            *annotation_details(alert.object("annotations").texts()),
        ],
        rules=context.rules,
        key=event_key(NAME, message.principal, "alert", identity, start, status),
        value=seconds_between(start, end) if resolved else None,
    )
