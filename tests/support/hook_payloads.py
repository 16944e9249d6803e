"""Payloads of Alertmanager, Flux and Kubernetes, written after their public documentation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

#: A decoded JSON object.
Payload = dict[str, Any]

#: Go's zero time: the end of an alert that fires.
ZERO_TIME = "0001-01-01T00:00:00Z"


def encoded(payload: object) -> bytes:
    """Return the payload as a sender encodes it."""
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()


def alert(status: str = "firing", **members: object) -> Payload:
    """One alert of a notification of Alertmanager."""
    return {
        "status": status,
        "labels": {"alertname": "DiskFull", "severity": "page", "host": "db1", "mountpoint": "/var"},
        "annotations": {"summary": "/var on db1 is full", "runbook_url": "https://wiki.test/disk"},
        "startsAt": "2026-11-28T10:00:00.25Z",
        "endsAt": "2026-11-28T10:07:30.5Z" if status == "resolved" else ZERO_TIME,
        "generatorURL": "https://prometheus.test/graph?g0.expr=disk",
        "fingerprint": "9f2c1b7de0a35518",
        **members,
    }


def notification(*alerts: Payload, **members: object) -> Payload:
    """A notification of Alertmanager's webhook, version 4."""
    return {
        "version": "4",
        "groupKey": '{}:{alertname="DiskFull"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "oneshotd",
        "groupLabels": {"alertname": "DiskFull"},
        "commonLabels": {"alertname": "DiskFull", "severity": "page"},
        "commonAnnotations": {},
        "externalURL": "https://alertmanager.test",
        "alerts": list(alerts),
        **members,
    }


def label_set(labels: Mapping[str, str]) -> Payload:
    """A set of labels as the event recorder has it."""
    return {"labels": [{"key": name, "value": text} for name, text in labels.items()]}


def recorded(kind: str, data: Payload, *, instance: str = "am-1", time: str = "") -> Payload:
    """An event of Alertmanager's event recorder."""
    return {
        "@timestamp": time or "2026-11-28T10:00:01.000000123Z",
        "instance": instance,
        "data": {kind: data},
        "clusterPosition": 1,
    }


def recorded_alert(**members: object) -> Payload:
    """An alert in such an event: it fires, so the member ``resolved`` is left out."""
    return {
        "fingerprint": "11470512345678901234",
        "name": "DiskFull",
        "labels": label_set({"alertname": "DiskFull", "host": "db1", "severity": "page"}),
        "annotations": label_set({"summary": "/var on db1 is full"}),
        "startsAt": "2026-11-28T10:00:00Z",
        "endsAt": "2026-11-28T10:05:00Z",
        **members,
    }


GROUP_INFO: Payload = {
    "groupKey": '{}:{alertname="DiskFull"}',
    "groupLabels": label_set({"alertname": "DiskFull"}),
    "groupId": "77ab",
    "receiverName": "pager",
    "matchers": [],
    "groupUuid": "3f1d6a0e-0000-4000-8000-000000000001",
}

SILENCE: Payload = {
    "id": "a3b1c2d4-0000-4000-8000-000000000002",
    "matchers": [
        {"type": "TYPE_EQUAL", "name": "host", "pattern": "db1", "rendered": 'host="db1"'},
        {"type": "TYPE_REGEXP", "name": "severity", "pattern": "p.*", "rendered": 'severity=~"p.*"'},
    ],
    "startsAt": "2026-11-28T10:00:00Z",
    "endsAt": "2026-11-28T12:00:00Z",
    "updatedAt": "2026-11-28T10:00:00.5Z",
    "createdBy": "ann",
    "comment": "the disk is being replaced",
}

MUTED: Payload = {
    "labels": label_set({"alertname": "DiskFull", "host": "db1"}),
    "fingerprint": "11470512345678901234",
}

#: One event of each kind that the recorder has.
RECORDED: Mapping[str, Payload] = {
    "alertmanagerStartupEvent": {"version": "0.34.0", "buildContext": "(go=go1.26)"},
    "alertmanagerShutdownEvent": {},
    "alertCreated": {"alert": recorded_alert()},
    "alertGrouped": {"alert": {"hash": "123", "details": recorded_alert()}, "groupInfo": GROUP_INFO},
    "alertResolved": {
        "alert": {"hash": "123", "details": recorded_alert(resolved=True)},
        "groupInfo": GROUP_INFO,
    },
    "notification": {
        "alerts": [{"hash": "123", "details": recorded_alert()}],
        "firingAlerts": [{"hash": "123"}],
        "groupInfo": GROUP_INFO,
        "repeatInterval": "14400s",
        "reason": "NOTIFY_REASON_FIRST_NOTIFICATION",
        "flushId": "7",
        "integration": {"name": "webhook"},
    },
    "silenceCreated": {"silence": SILENCE},
    "silenceUpdated": {"silence": SILENCE},
    "silenceMutedAlert": {"silence": SILENCE, "mutedAlert": MUTED},
    "inhibitionMutedAlert": {
        "inhibitRules": [{"name": "down", "equalLabels": ["host"]}],
        "mutedAlert": MUTED,
        "inhibitingFingerprints": ["9"],
    },
}


def flux_event(**members: object) -> Payload:
    """An event of Flux's notification-controller."""
    return {
        "involvedObject": {
            "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
            "kind": "Kustomization",
            "name": "shop",
            "namespace": "apps",
            "uid": "7d0cdc51-0004",
        },
        "metadata": {
            "kustomize.toolkit.fluxcd.io/revision": "main@sha1:731f7ea",
            "summary": "the shop",
        },
        "severity": "error",
        "reason": "ValidationFailed",
        "message": "service/apps/shop: spec.type is not valid",
        "reportingController": "kustomize-controller",
        "reportingInstance": "kustomize-controller-7c7b47f5f-8bhrp",
        "timestamp": "2026-11-28T09:26:19Z",
        **members,
    }


def kubernetes_event(count: int = 3, **members: object) -> Payload:
    """An Event of core/v1, as kubernetes-event-exporter posts it."""
    return {
        "metadata": {
            "name": "shop-5d4f-xk2.17a3f0c1",
            "namespace": "apps",
            "uid": "5f6ae1b2-0005",
            "creationTimestamp": "2026-11-28T09:00:00Z",
        },
        "reason": "BackOff",
        "message": "Back-off restarting failed container shop",
        "source": {"component": "kubelet", "host": "node-3"},
        "firstTimestamp": "2026-11-28T09:00:00Z",
        "lastTimestamp": "2026-11-28T09:02:00Z",
        "count": count,
        "type": "Warning",
        "eventTime": None,
        "reportingComponent": "kubelet",
        "reportingInstance": "node-3",
        "clusterName": "blue",
        "involvedObject": {
            "kind": "Pod",
            "namespace": "apps",
            "name": "shop-5d4f-xk2",
            "uid": "e2b7-0006",
            "apiVersion": "v1",
            "fieldPath": "spec.containers{shop}",
            "labels": {"app": "shop"},
            "deleted": False,
        },
        **members,
    }


def new_kubernetes_event(series: int | None = 7, **members: object) -> Payload:
    """An Event of events.k8s.io/v1."""
    last = "2026-11-28T09:05:00.000001Z"
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "shop.17a4", "namespace": "apps", "uid": "5f6ae1b2-0007"},
        "eventTime": "2026-11-28T09:01:00.123456Z",
        "series": None if series is None else {"count": series, "lastObservedTime": last},
        "reportingController": "default-scheduler",
        "reportingInstance": "scheduler-1",
        "action": "Scheduling",
        "reason": "FailedScheduling",
        "regarding": {"kind": "Pod", "namespace": "apps", "name": "shop-5d4f-xk2"},
        "note": "0/3 nodes are available",
        "type": "Warning",
        "deprecatedSource": {},
        "deprecatedFirstTimestamp": None,
        **members,
    }
