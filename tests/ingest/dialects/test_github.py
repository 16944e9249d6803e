"""Webhooks of GitHub become one event for what has come to its end."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest
from support.forge_payloads import (
    REPOSITORY,
    deployment_status,
    github_headers,
    github_release,
    push,
    workflow_run,
)
from support.hook_payloads import Payload, encoded
from support.preset_driver import Log, details, events_of, labels, translate

from oneshotd.errors import Refused


def one(kind: str, payload: object) -> tuple[dict[str, str], dict[str, str], str | None]:
    """Return labels, details and value of the only event."""
    (event,) = events_of(translate("github", payload, github_headers(kind)))
    return labels(event), details(event), event.value


def test_a_finished_run_has_its_seconds() -> None:
    """A team could not see how long its builds take."""
    assert one("workflow_run", workflow_run()) == (
        {
            "type": "workflow_run",
            "repository": "acme/shop",
            "workflow": "CI",
            "result": "success",
            "trigger": "push",
            "branch": "main",
        },
        {
            "time": "2026-11-28T09:10:00Z",
            "end": "2026-11-28T09:12:05Z",
            "url": "https://github.test/acme/shop/actions/runs/901",
            "title": "Sell hats",
            "branch": "main",
            "sha": "4f1c2ab",
            "run": "41",
            "attempt": "2",
            "actor": "ann",
        },
        "125",
    )


def test_branches_that_come_and_go_are_no_labels() -> None:
    """Each pull request would make series of its own."""
    found, beside, _ = one("workflow_run", workflow_run(head_branch="fix-hats", conclusion="timed_out"))
    assert (found.get("branch"), beside["branch"], found["result"]) == (None, "fix-hats", "timed_out")
    found, beside, _ = one("push", push("refs/heads/fix-hats"))
    assert (found.get("branch"), beside["ref"]) == (None, "fix-hats")


@pytest.mark.parametrize(
    "times", [{"run_started_at": None}, {"updated_at": None}, {"run_started_at": "2026-11-28T09:13:00Z"}]
)
def test_a_run_without_both_times_has_no_value(times: Payload) -> None:
    """A length that nobody knows would be zero or negative."""
    assert one("workflow_run", workflow_run(**times))[2] is None


def test_a_deployment_has_its_environment_and_seconds() -> None:
    """Deploy marks could not be drawn."""
    assert one("deployment_status", deployment_status()) == (
        {
            "type": "deployment",
            "repository": "acme/shop",
            "environment": "production",
            "result": "success",
            "task": "deploy",
        },
        {
            "time": "2026-11-28T09:20:00Z",
            "end": "2026-11-28T09:20:30Z",
            "url": "https://github.test/acme/shop/log",
            "text": "rolled out",
            "environment": "production",
            "ref": "main",
            "sha": "4f1c2ab",
            "actor": "ann",
        },
        "30",
    )
    transient, beside, _ = one("deployment_status", deployment_status(transient_environment=True))
    assert ("environment" in transient, beside["environment"]) == (False, "production")


def test_a_release_has_its_version() -> None:
    """Releases could not be marked in a graph."""
    assert one("release", github_release()) == (
        {"type": "release", "repository": "acme/shop", "version": "v1.2.0"},
        {
            "time": "2026-11-28T09:30:00Z",
            "url": "https://github.test/acme/shop/releases/tag/v1.2.0",
            "title": "Hats",
            "text": "The shop sells hats.\n",
            "actor": "ann",
        },
        None,
    )
    assert one("release", github_release(prerelease=True))[0]["prerelease"] == "true"


def test_a_push_is_one_event_whatever_it_brings() -> None:
    """Pushes could not be counted."""
    assert one("push", push()) == (
        {"type": "push", "repository": "acme/shop", "ref_type": "branch", "branch": "main"},
        {
            "url": "https://github.test/acme/shop/compare/a...b",
            "ref": "main",
            "sha": "4f1c2ab",
            "commits": "2",
            "text": "Sell hats",
            "actor": "ann",
        },
        None,
    )
    found, beside, _ = one("push", push("refs/tags/main", forced=True, head_commit=None, commits=[]))
    assert (found["ref_type"], found.get("branch"), beside["ref"]) == ("tag", None, "main")
    assert (beside["forced"], beside["commits"]) == ("true", "0")


@pytest.mark.parametrize(
    ("kind", "payload", "ignored"),
    [
        ("ping", {"zen": "Keep it logically awesome.", "hook_id": 1}, 0),
        ("issues", {"action": "opened"}, 1),
        ("workflow_job", b"not even JSON", 1),
        ("workflow_run", workflow_run("requested"), 1),
        ("workflow_run", workflow_run("in_progress"), 1),
        *(
            ("deployment_status", deployment_status(state), 1)
            for state in ("pending", "queued", "waiting", "in_progress", "inactive")
        ),
        *(
            ("release", github_release(action), 1)
            for action in ("created", "edited", "deleted", "prereleased", "released", "unpublished")
        ),
        ("push", push(deleted=True, head_commit=None), 1),
    ],
)
def test_what_is_no_end_is_left_out(kind: str, payload: object, ignored: int) -> None:
    """A run would count three times; or GitHub would show a failed delivery for what is of no interest."""
    translation = translate("github", payload, github_headers(kind))
    assert (translation.group, translation.ignored) == (None, ignored)


def test_a_redelivery_counts_once() -> None:
    """To press "Redeliver" would count a run twice."""
    log = Log()
    for delivery in ("a", "b", "a"):
        headers = github_headers("workflow_run", delivery)
        log.append(translate("github", workflow_run(), headers).group)
    assert len(log.events) == 2


@pytest.mark.parametrize(
    "content_type",
    [
        "application/x-www-form-urlencoded",
        "application/x-www-form-urlencoded; charset=utf-8",
        "Application/X-WWW-Form-Urlencoded",
    ],
)
def test_a_form_has_the_same_event(content_type: str) -> None:
    """A webhook with the other content type of its settings would be refused."""
    payload = workflow_run(display_title="Sell hüte + caps & 100%")
    body = urlencode({"payload": json.dumps(payload)}).encode()
    headers = {**github_headers("workflow_run"), "content-type": content_type}
    form = translate("github", body, headers)
    assert form == translate("github", payload, github_headers("workflow_run"))
    assert details(events_of(form)[0])["title"] == "Sell hüte + caps & 100%"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "expected one field payload in the form, got 0"),
        (b"other=1", "expected one field payload in the form, got 0"),
        (b"payload=1&payload=2", "expected one field payload in the form, got 2"),
        (b"payload=", "not JSON: "),
        (b"payload=%7B%7", "'%7' is not a percent escape"),
        (b"payload=%ff", "'payload=%ff' is not UTF-8"),
        (b'{"zen": 1}', "'{\"zen\": 1}' is not of the form name=value"),
    ],
)
def test_a_form_without_a_payload_is_refused(body: bytes, text: str) -> None:
    """The operator would not know what is wrong with the sender."""
    headers = {**github_headers("push"), "content-type": "application/x-www-form-urlencoded"}
    with pytest.raises(Refused) as caught:
        translate("github", body, headers)
    assert caught.value.text.startswith(text)


@pytest.mark.parametrize(
    ("payload", "headers", "text"),
    [
        (push(), {}, "the header X-GitHub-Event is missing: this takes webhooks of GitHub"),
        (push(), {"x-github-event": "push"}, "the header X-GitHub-Delivery is missing"),
        (push(), github_headers("push", ""), "the header X-GitHub-Delivery is missing"),
        ([], github_headers("push"), "expected an object at the top, got an array"),
        ({**push(), "repository": "shop"}, github_headers("push"), "expected an object at /repository, got"),
        (push(commits=3), github_headers("push"), "expected an array at /commits, got a number"),
        (push(deleted="no"), github_headers("push"), "expected true or false at /deleted, got a string"),
        (
            workflow_run(head_branch=[]),
            github_headers("workflow_run"),
            "expected a text at /workflow_run/head_b",
        ),
        (encoded(push())[:-40], github_headers("push"), "not JSON: "),
    ],
)
def test_what_is_no_webhook_is_refused(payload: object, headers: dict[str, str], text: str) -> None:
    """The operator would not know what is wrong with the sender."""
    with pytest.raises(Refused) as caught:
        translate("github", payload, headers)
    assert caught.value.text.startswith(text)


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("push", {"repository": {"full_name": REPOSITORY["full_name"]}}),
        ("release", {"action": "published"}),
        ("workflow_run", {"action": "completed"}),
        ("deployment_status", {"deployment_status": {"state": "error"}}),
    ],
)
def test_members_that_are_missing_are_no_fault(kind: str, payload: object) -> None:
    """A server of another version would lose its events."""
    assert one(kind, payload)[0]["type"]
