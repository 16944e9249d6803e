"""Events of Alertmanager's event recorder: one kind of data each, in the JSON form of protocol buffers.

That form leaves out members that are zero, false or empty, and writes 64-bit numbers as strings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from attrs import frozen

from oneshotd.core.events import NewEvent
from oneshotd.core.parsing.grammar import quoted
from oneshotd.errors import Refused
from oneshotd.ingest.dialects.fitting import make_event, named
from oneshotd.ingest.dialects.json_objects import JSONObject
from oneshotd.ingest.dialects.keys import event_key
from oneshotd.ingest.dialects.times import rfc3339, seconds_between
from oneshotd.ingest.dialects.translation import Context, Message

#: Name of the dialect.
NAME = "alertmanager"

_Pairs = Sequence[tuple[str, str]]


def alert_labels(labels: Mapping[str, str], taken: Sequence[str]) -> _Pairs:
    """Return the labels of an alert, alertname and severity first.

    :param taken: names of labels that the event has itself.
    """
    first = [(name, labels[name]) for name in ("alertname", "severity") if name in labels]
    rest = {name: text for name, text in labels.items() if name not in ("alertname", "severity")}
    return [*first, *named(rest, prefix="alert_", taken=(*taken, "alertname", "severity"))]


def annotation_details(texts: Mapping[str, str]) -> _Pairs:
    """Return the annotations of an alert as details, the usual ones first."""
    usual = ("summary", "description", "message")
    first = {name: texts[name] for name in usual if name in texts}
    rest = {name: text for name, text in texts.items() if name not in usual}
    taken = ("time", "end", "url", "alertmanager", "receiver", "truncated", "instance")
    return [*first.items(), *named(rest, prefix="annotation_", taken=taken)]


@frozen(kw_only=True)
class _Recorded:
    """What one kind of data says.

    :param identity: what identifies the event at every peer of a cluster; None: each peer's event is its own.
    """

    labels: _Pairs = ()
    details: _Pairs = ()
    value: str | None = None
    identity: Sequence[str] | None = None


def recorded(item: JSONObject, message: Message, context: Context) -> NewEvent | None:
    """Return a recorded event; None for a kind that is not known.

    :raises Refused: a member has another type than documented, or there is more than one kind of data.
    """
    data = item.object("data")
    kinds = [name for name in data.members if data.has(name)]
    if len(kinds) > 1:
        text = ", ".join(quoted(name) for name in kinds[:3])
        raise Refused(f"expected one member at {data.at}, got {len(kinds)}: {text}", reason="syntax")
    if not kinds or kinds[0] not in _KINDS:
        return None
    name, read = _KINDS[kinds[0]]
    found = read(data.object(kinds[0]))
    time, instance = item.text("@timestamp"), item.text("instance")
    identity = found.identity
    if identity is None:
        texts = [f"{label}={text}" for label, text in found.labels]
        identity = (time, instance, *texts)
    return make_event(
        [("type", "alertmanager"), ("event", name), *found.labels],
        [*found.details, ("time", rfc3339(time)), ("instance", instance)],
        rules=context.rules,
        key=event_key(NAME, message.principal, name, *identity),
        value=found.value,
    )


#: Labels that every recorded event has.
_OWN = ("type", "event")


def _startup(data: JSONObject) -> _Recorded:
    return _Recorded(labels=[("version", data.text("version"))])


def _shutdown(data: JSONObject) -> _Recorded:
    return _Recorded()


def _created(data: JSONObject) -> _Recorded:
    alert = data.object("alert")
    return _Recorded(labels=_alert_labels(alert), details=_alert_details(alert), identity=_alert_id(alert))


def _grouped(data: JSONObject) -> _Recorded:
    alert, group = data.object("alert").object("details"), data.object("groupInfo")
    receiver = group.text("receiverName")
    return _Recorded(
        labels=[("receiver", receiver), *_alert_labels(alert, "receiver")],
        details=_alert_details(alert),
        identity=(*_alert_id(alert), group.text("groupKey"), receiver),
    )


def _resolved(data: JSONObject) -> _Recorded:
    grouped, alert = _grouped(data), data.object("alert").object("details")
    end = alert.text("endsAt")
    return _Recorded(
        labels=grouped.labels,
        details=[("end", rfc3339(end)), *grouped.details],
        value=seconds_between(alert.text("startsAt"), end),
        identity=grouped.identity,
    )


def _notified(data: JSONObject) -> _Recorded:
    group, integration = data.object("groupInfo"), data.object("integration")
    own = {
        "receiver": group.text("receiverName"),
        "integration": integration.text("name"),
        "reason": data.text("reason").removeprefix("NOTIFY_REASON_").lower(),
    }
    groups = named(_label_set(group, "groupLabels"), prefix="alert_", taken=(*_OWN, *own))
    return _Recorded(
        labels=[*own.items(), *groups],
        details=[
            ("alerts", str(len(data.objects("alerts")))),
            ("firing", str(len(data.objects("firingAlerts")))),
            ("resolved", str(len(data.objects("resolvedAlerts")))),
            ("muted", str(len(data.objects("mutedAlerts")))),
            ("index", integration.text("index")),
            ("group", group.text("groupKey")),
        ],
    )


def _silence(data: JSONObject) -> _Recorded:
    silence = data.object("silence")
    return _Recorded(
        details=[
            ("text", silence.text("comment")),
            ("by", silence.text("createdBy")),
            ("matchers", ", ".join(each.text("rendered") for each in silence.objects("matchers"))),
            ("from", rfc3339(silence.text("startsAt"))),
            ("end", rfc3339(silence.text("endsAt"))),
            ("silence", silence.text("id")),
        ],
        identity=(silence.text("id"), silence.text("updatedAt")),
    )


def _muted(data: JSONObject) -> _Recorded:
    labels = _label_set(data.object("mutedAlert"), "labels")
    rules = ", ".join(rule.text("name") for rule in data.objects("inhibitRules"))
    return _Recorded(
        labels=alert_labels(labels, _OWN),
        details=[("silence", data.object("silence").text("id")), ("inhibit_rules", rules)],
    )


#: Member of ``data`` -> the label ``event``, and its reader.
_KINDS: Mapping[str, tuple[str, Callable[[JSONObject], _Recorded]]] = {
    "alertmanagerStartupEvent": ("startup", _startup),
    "alertmanagerShutdownEvent": ("shutdown", _shutdown),
    "alertCreated": ("alert_created", _created),
    "alertGrouped": ("alert_grouped", _grouped),
    "alertResolved": ("alert_resolved", _resolved),
    "notification": ("notification", _notified),
    "silenceCreated": ("silence_created", _silence),
    "silenceUpdated": ("silence_updated", _silence),
    "silenceMutedAlert": ("silence_muted_alert", _muted),
    "inhibitionMutedAlert": ("inhibition_muted_alert", _muted),
}


def _alert_labels(alert: JSONObject, *taken: str) -> _Pairs:
    return alert_labels(_label_set(alert, "labels"), (*_OWN, *taken))


def _alert_details(alert: JSONObject) -> _Pairs:
    start = ("from", rfc3339(alert.text("startsAt")))
    return [start, *annotation_details(_label_set(alert, "annotations"))]


def _alert_id(alert: JSONObject) -> Sequence[str]:
    return alert.text("fingerprint"), alert.text("startsAt")


def _label_set(parent: JSONObject, name: str) -> Mapping[str, str]:
    return {pair.text("key"): pair.text("value") for pair in parent.object(name).objects("labels")}
