"""GitLab webhooks: pipelines, deployments and releases; others are left out.

Each gives one event when it has come to its end, so a count of events is one of pipelines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from attrs import frozen

from oneshotd.core.events import Group
from oneshotd.errors import Refused
from oneshotd.ingest.dialects.fitting import make_event
from oneshotd.ingest.dialects.json_objects import JSONObject, read_object
from oneshotd.ingest.dialects.keys import event_key
from oneshotd.ingest.dialects.times import rfc3339
from oneshotd.ingest.dialects.translation import Context, Message, Translation

NAME = "gitlab"

_PIPELINE_ENDS = ("success", "failed", "canceled", "skipped")
_DEPLOYMENT_ENDS = ("success", "failed", "canceled")


@frozen(kw_only=True)
class _Told:
    """What a webhook tells.

    :param identity: what identifies the event where GitLab sends no key (before 17.4).
    """

    labels: Sequence[tuple[str, str]]
    details: Sequence[tuple[str, str]]
    identity: Sequence[str]
    value: str | None = None


def translate(message: Message, context: Context) -> Translation:
    """Translate a webhook of GitLab."""
    body = read_object(message.body)
    # Events of members, groups and system hooks have an event_name only.
    kind = body.text("object_kind") or body.text("event_name")
    if not kind:
        raise Refused("expected a text at /object_kind (a webhook of GitLab), got none", reason="syntax")
    read = _KINDS.get(kind)
    told = None if read is None else read(body)
    if told is None:
        return Translation(ignored=1)
    project = body.object("project")
    path = project.text("path_with_namespace")
    sent, instance = (message.headers.get(name, "") for name in ("idempotency-key", "x-gitlab-instance"))
    identity = ("key", sent) if sent else (instance, kind, path, project.text("id"), *told.identity)
    event = make_event(
        [*told.labels[:1], ("project", path), *told.labels[1:]],
        told.details,
        rules=context.rules,
        key=event_key(NAME, message.principal, *identity),
        value=told.value,
    )
    return Translation(group=Group(events=[event], keys_decide=True))


def _pipeline(body: JSONObject) -> _Told | None:
    pipeline = body.object("object_attributes")
    if pipeline.needed("status") not in _PIPELINE_ENDS:
        return None
    ref, end = pipeline.text("ref"), pipeline.text("finished_at")
    is_default = ref == body.object("project").text("default_branch") and not pipeline.flag("tag")
    return _Told(
        labels=[
            ("type", "pipeline"),
            ("result", pipeline.text("status")),
            ("trigger", pipeline.text("source")),
            ("branch", ref if is_default else ""),
            ("tag", "true" if pipeline.flag("tag") else ""),
        ],
        details=[
            ("time", rfc3339(pipeline.text("created_at"))),
            ("end", rfc3339(end)),
            ("url", pipeline.text("url")),
            ("title", pipeline.text("name") or body.object("commit").text("title")),
            ("ref", ref),
            ("sha", pipeline.text("sha")),
            ("pipeline", pipeline.text("id")),
            ("queued", pipeline.text("queued_duration")),
            ("actor", body.object("user").text("username")),
        ],
        identity=(pipeline.needed("id"), pipeline.text("status"), end),
        value=pipeline.number("duration"),
    )


def _deployment(body: JSONObject) -> _Told | None:
    status, changed = body.needed("status"), body.text("status_changed_at")
    if status not in _DEPLOYMENT_ENDS:
        return None
    environment = body.text("environment")
    return _Told(
        labels=[
            ("type", "deployment"),
            # Environments that are made for a branch stand in a folder: review/NAME.
            ("environment", "" if "/" in environment else environment),
            ("tier", body.text("environment_tier")),
            ("result", status),
        ],
        details=[
            ("time", rfc3339(changed)),
            ("url", body.text("deployable_url")),
            ("text", body.text("commit_title")),
            ("environment", environment),
            ("ref", body.text("ref")),
            ("sha", body.text("short_sha")),
            ("actor", body.object("user").text("username")),
        ],
        identity=(body.needed("deployment_id"), status, changed),
    )


def _release(body: JSONObject) -> _Told | None:
    if body.needed("action") != "create":
        return None
    return _Told(
        labels=[("type", "release"), ("version", body.text("tag"))],
        details=[
            ("time", rfc3339(body.text("released_at") or body.text("created_at"))),
            ("url", body.text("url")),
            ("title", body.text("name")),
            ("text", body.text("description")),
            ("sha", body.object("commit").text("id")),
        ],
        identity=(body.needed("id"), body.text("tag")),
    )


_KINDS: Mapping[str, Callable[[JSONObject], _Told | None]] = {
    "pipeline": _pipeline,
    "deployment": _deployment,
    "release": _release,
}
