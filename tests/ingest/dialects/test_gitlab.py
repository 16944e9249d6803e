"""Webhooks of GitLab become one event for what has come to its end."""

from __future__ import annotations

import pytest
from support.forge_payloads import gitlab_deployment, gitlab_headers, gitlab_release, pipeline
from support.hook_payloads import Payload, encoded
from support.preset_driver import Log, details, events_of, labels, translate

from oneshotd.errors import Refused


def one(payload: object) -> tuple[dict[str, str], dict[str, str], str | None]:
    """Return labels, details and value of the only event."""
    (event,) = events_of(translate("gitlab", payload, gitlab_headers()))
    return labels(event), details(event), event.value


def test_a_pipeline_has_its_seconds() -> None:
    """A team could not see how long its pipelines take."""
    assert one(pipeline()) == (
        {
            "type": "pipeline",
            "project": "acme/shop",
            "result": "success",
            "trigger": "push",
            "branch": "main",
        },
        {
            "time": "2026-11-28T09:00:00Z",
            "end": "2026-11-28T09:03:20Z",
            "url": "https://gitlab.test/acme/shop/-/pipelines/310",
            "title": "Sell hats",
            "ref": "main",
            "sha": "bcbb5ec",
            "pipeline": "310",
            "queued": "10",
            "actor": "ann",
        },
        "63",
    )


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ({"duration": 63.25}, (None, "63.25")),
        ({"duration": None}, (None, None)),
        ({"ref": "fix-hats"}, ("", "63")),
        ({"ref": "main", "tag": True}, ("", "63")),
    ],
)
def test_a_pipeline_of_another_kind(members: Payload, found: tuple[str | None, str | None]) -> None:
    """A branch for a merge request would make series of its own; a tag would look like a branch."""
    labels, _, value = one(pipeline(**members))
    branch, expected = found
    assert (labels.get("branch", "") if branch == "" else None, value) == (branch, expected)
    assert labels.get("tag") == ("true" if members.get("tag") else None)


def test_a_deployment_has_its_tier() -> None:
    """Deploy marks could not be drawn."""
    assert one(gitlab_deployment()) == (
        {
            "type": "deployment",
            "project": "acme/shop",
            "environment": "production",
            "tier": "production",
            "result": "success",
        },
        {
            "time": "2026-11-28T10:20:00+01:00",
            "url": "https://gitlab.test/acme/shop/-/jobs/796",
            "text": "Sell hats",
            "environment": "production",
            "ref": "main",
            "sha": "279484c0",
            "actor": "ann",
        },
        None,
    )
    review = gitlab_deployment(environment="review/fix-hats", environment_tier="development")
    found, beside, _ = one(review)
    assert (found.get("environment"), beside["environment"]) == (None, "review/fix-hats")


def test_a_release_has_its_version() -> None:
    """Releases could not be marked in a graph."""
    assert one(gitlab_release()) == (
        {"type": "release", "project": "acme/shop", "version": "v1.2.0"},
        {
            "time": "2026-11-28T09:30:00Z",
            "url": "https://gitlab.test/acme/shop/-/releases/v1.2.0",
            "title": "Hats",
            "text": "The shop sells hats.",
            "sha": "ee0a3fb",
        },
        None,
    )


@pytest.mark.parametrize(
    "payload",
    [
        {"object_kind": "push", "ref": "refs/heads/main"},
        {"object_kind": "build", "build_status": "success"},
        {"event_name": "user_add_to_group", "group_name": "acme"},
        *(
            pipeline(status)
            for status in (
                *("created", "waiting_for_resource", "preparing", "pending", "running", "manual"),
                *("scheduled", "canceling"),
            )
        ),
        *(gitlab_deployment(status) for status in ("created", "running", "blocked", "skipped")),
        *(gitlab_release(action) for action in ("update", "delete")),
    ],
)
def test_what_is_no_end_is_left_out(payload: Payload) -> None:
    """A pipeline would count five times; or GitLab would disable the webhook after four refusals."""
    translation = translate("gitlab", payload, gitlab_headers())
    assert (translation.group, translation.ignored) == (None, 1)


@pytest.mark.parametrize("status", ["success", "failed", "canceled", "skipped"])
def test_each_end_counts(status: str) -> None:
    """A failed pipeline would not be seen."""
    assert one(pipeline(status))[0]["result"] == status


def test_a_resent_request_counts_once() -> None:
    """A retry would count a pipeline twice."""
    log = Log()
    for key in ("a", "b", "a"):
        log.append(translate("gitlab", pipeline(), gitlab_headers(key=key)).group)
    assert len(log.events) == 2


@pytest.mark.parametrize(
    ("payload", "other", "stored"),
    [
        (pipeline(), pipeline(url="https://moved.test"), 1),
        (pipeline(), pipeline("failed"), 2),
        (pipeline(), pipeline(finished_at="2026-11-28 09:09:09 UTC"), 2),  # a job was tried again
        (pipeline(), pipeline(id=311), 2),
        (gitlab_deployment(), gitlab_deployment(commit_title="x"), 1),
        (gitlab_deployment(), gitlab_deployment(deployment_id=16), 2),
        (gitlab_deployment("failed"), gitlab_deployment(), 2),
        (gitlab_release(), gitlab_release(description="x"), 1),
        (gitlab_release(), gitlab_release(id=2), 2),
        (gitlab_release(id=310), pipeline(id=310), 2),
        (pipeline(), {**pipeline(), "project": {"id": 13, "path_with_namespace": "acme/other"}}, 2),
    ],
)
def test_before_17_4_the_content_is_the_key(payload: Payload, other: Payload, stored: int) -> None:
    """A GitLab that sends no Idempotency-Key would count a retry twice, or another event not at all."""
    log = Log()
    for each in (payload, other, payload):
        log.append(translate("gitlab", each, gitlab_headers(key=None)).group)
    assert len(log.events) == stored


def test_two_instances_have_keys_of_their_own() -> None:
    """A pipeline would be a duplicate of one of another server."""
    log = Log()
    for instance in ("https://gitlab.test", "https://other.test"):
        headers = {**gitlab_headers(key=None), "x-gitlab-instance": instance}
        log.append(translate("gitlab", pipeline(), headers).group)
    assert len(log.events) == 2


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ({}, "expected a text at /object_kind (a webhook of GitLab), got none"),
        ([], "expected an object at the top, got an array"),
        ({"object_kind": {}}, "expected a text at /object_kind, got an object"),
        ({"object_kind": "pipeline"}, "expected a text at /object_attributes/status, got none"),
        (
            {"object_kind": "pipeline", "object_attributes": "x"},
            "expected an object at /object_attributes, got",
        ),
        (pipeline(id=None), "expected a text at /object_attributes/id, got none"),
        (pipeline(duration="63"), "expected a number at /object_attributes/duration, got a string"),
        (pipeline(tag="no"), "expected true or false at /object_attributes/tag, got a string"),
        (gitlab_deployment(deployment_id=None), "expected a text at /deployment_id, got none"),
        ({**gitlab_release(), "action": None}, "expected a text at /action, got none"),
        ({**pipeline(), "project": []}, "expected an object at /project, got an array"),
        (encoded(pipeline())[:100], "not JSON: "),
    ],
)
def test_what_is_no_webhook_is_refused(payload: object, text: str) -> None:
    """The operator would not know what is wrong with the sender."""
    with pytest.raises(Refused) as caught:
        translate("gitlab", payload, gitlab_headers())
    assert caught.value.text.startswith(text)


def test_a_duration_beyond_a_float_is_refused() -> None:
    """A sample would be stored that no scraper takes."""
    with pytest.raises(Refused) as caught:
        translate(
            "gitlab", encoded(pipeline()).replace(b'"duration":63', b'"duration":1e999'), gitlab_headers()
        )
    assert caught.value.reason == "value"
