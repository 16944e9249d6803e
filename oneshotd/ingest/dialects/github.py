"""GitHub webhooks: `workflow_run`, `deployment_status`, `release` and `push`; others are left out.

Each kind gives one event of what has come to its end, so a count of events is one of runs, deployments,
releases and pushes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from attrs import frozen

from oneshotd.core.events import Group
from oneshotd.core.parsing.formats import query_pairs
from oneshotd.errors import Refused
from oneshotd.ingest.dialects.fitting import make_event
from oneshotd.ingest.dialects.json_objects import JSONObject, read_object
from oneshotd.ingest.dialects.keys import event_key
from oneshotd.ingest.dialects.times import rfc3339, seconds_between
from oneshotd.ingest.dialects.translation import Context, Message, Translation

NAME = "github"

_FORM = "application/x-www-form-urlencoded"

#: States of a deployment that are its end.
_ENDS = ("success", "failure", "error")


@frozen(kw_only=True)
class _Told:
    """What a webhook tells."""

    labels: Sequence[tuple[str, str]]
    details: Sequence[tuple[str, str]] = ()
    value: str | None = None


def translate(message: Message, context: Context) -> Translation:
    """Translate a webhook of GitHub."""
    kind = _header(message, "X-GitHub-Event")
    delivery = _header(message, "X-GitHub-Delivery")
    read = _KINDS.get(kind)
    if read is None:
        return Translation(ignored=int(kind != "ping"))
    body = read_object(_json(message))
    told = read(body)
    if told is None:
        return Translation(ignored=1)
    event = make_event(
        [*told.labels[:1], ("repository", body.object("repository").text("full_name")), *told.labels[1:]],
        [*told.details, ("actor", body.object("sender").text("login"))],
        rules=context.rules,
        key=event_key(NAME, message.principal, delivery),
        value=told.value,
    )
    return Translation(group=Group(events=[event], keys_decide=True))


def _header(message: Message, name: str) -> str:
    text = message.headers.get(name.lower(), "")
    if not text:
        raise Refused(f"the header {name} is missing: this takes webhooks of GitHub", reason="syntax")
    return text


def _json(message: Message) -> bytes:
    """Return the JSON text, which the content type application/x-www-form-urlencoded has in ``payload``."""
    if message.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        return message.body
    texts = [text for name, text in query_pairs(message.body.strip()) if name == "payload"]
    if len(texts) != 1 or texts[0] is None:
        raise Refused(f"expected one field payload in the form, got {len(texts)}", reason="syntax")
    return texts[0].encode()


def _workflow_run(body: JSONObject) -> _Told | None:
    run = body.object("workflow_run")
    if body.text("action") != "completed":
        return None
    start, end = run.text("run_started_at"), run.text("updated_at")
    branch = run.text("head_branch")
    return _Told(
        labels=[
            ("type", "workflow_run"),
            ("workflow", body.object("workflow").text("name") or run.text("name")),
            ("result", run.text("conclusion")),
            ("trigger", run.text("event")),
            ("branch", _default_branch(body, branch)),
        ],
        details=[
            ("time", rfc3339(start)),
            ("end", rfc3339(end)),
            ("url", run.text("html_url")),
            ("title", run.text("display_title")),
            ("branch", branch),
            ("sha", run.text("head_sha")),
            ("run", run.text("run_number")),
            ("attempt", run.text("run_attempt")),
        ],
        value=seconds_between(start, end),
    )


def _deployment_status(body: JSONObject) -> _Told | None:
    status, deployment = body.object("deployment_status"), body.object("deployment")
    if status.text("state") not in _ENDS:
        return None
    start, end = deployment.text("created_at"), status.text("created_at")
    environment = status.text("environment") or deployment.text("environment")
    return _Told(
        labels=[
            ("type", "deployment"),
            # An environment that is made for one pull request has a name of its own.
            ("environment", "" if deployment.flag("transient_environment") else environment),
            ("result", status.text("state")),
            ("task", deployment.text("task")),
        ],
        details=[
            ("time", rfc3339(start)),
            ("end", rfc3339(end)),
            ("url", status.text("log_url") or status.text("target_url")),
            ("text", status.text("description")),
            ("environment", environment),
            ("ref", deployment.text("ref")),
            ("sha", deployment.text("sha")),
        ],
        value=seconds_between(start, end),
    )


def _release(body: JSONObject) -> _Told | None:
    release = body.object("release")
    if body.text("action") != "published":
        return None  # the same release is also created and released
    return _Told(
        labels=[
            ("type", "release"),
            ("version", release.text("tag_name")),
            ("prerelease", "true" if release.flag("prerelease") else ""),
        ],
        details=[
            ("time", rfc3339(release.text("published_at"))),
            ("url", release.text("html_url")),
            ("title", release.text("name")),
            ("text", release.text("body")),
        ],
    )


def _push(body: JSONObject) -> _Told | None:
    ref, head = body.text("ref"), body.object("head_commit")
    if body.flag("deleted"):
        return None
    is_tag = ref.startswith("refs/tags/")
    name = ref.removeprefix("refs/tags/" if is_tag else "refs/heads/")
    return _Told(
        labels=[
            ("type", "push"),
            ("ref_type", "tag" if is_tag else "branch"),
            ("branch", "" if is_tag else _default_branch(body, name)),
        ],
        details=[
            ("url", body.text("compare")),
            ("ref", name),
            ("sha", body.text("after")),
            ("commits", str(len(body.objects("commits")))),
            ("forced", "true" if body.flag("forced") else ""),
            ("text", head.text("message")),
        ],
    )


def _default_branch(body: JSONObject, branch: str) -> str:
    """Return the branch if it is the default one; others would make series of their own."""
    return branch if branch == body.object("repository").text("default_branch") else ""


_KINDS: Mapping[str, Callable[[JSONObject], _Told | None]] = {
    "workflow_run": _workflow_run,
    "deployment_status": _deployment_status,
    "release": _release,
    "push": _push,
}
