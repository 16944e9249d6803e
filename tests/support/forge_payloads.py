"""Payloads of GitHub and GitLab, written after their public documentation."""

from __future__ import annotations

from support.hook_payloads import Payload

REPOSITORY: Payload = {
    "id": 7,
    "full_name": "acme/shop",
    "default_branch": "main",
    "private": True,
    "html_url": "https://github.test/acme/shop",
}
_SENDER: Payload = {"login": "ann", "id": 3}


def github_headers(kind: str, delivery: str = "0b0f2c1e-0000-11f1-8000-000000000003") -> dict[str, str]:
    """The headers of a webhook of GitHub."""
    return {
        "content-type": "application/json",
        "user-agent": "GitHub-Hookshot/044aadd",
        "x-github-event": kind,
        "x-github-delivery": delivery,
        "x-github-hook-id": "292430182",
    }


def workflow_run(action: str = "completed", **members: object) -> Payload:
    """A run of a workflow, finished unless said otherwise."""
    return {
        "action": action,
        "workflow_run": {
            "id": 901,
            "name": "CI",
            "head_branch": "main",
            "head_sha": "4f1c2ab",
            "display_title": "Sell hats",
            "run_number": 41,
            "run_attempt": 2,
            "event": "push",
            "status": "completed" if action == "completed" else "queued",
            "conclusion": "success" if action == "completed" else None,
            "html_url": "https://github.test/acme/shop/actions/runs/901",
            "created_at": "2026-11-28T09:00:00Z",
            "run_started_at": "2026-11-28T09:10:00Z",
            "updated_at": "2026-11-28T09:12:05Z",
            "pull_requests": [],
            **members,
        },
        "workflow": {"id": 5, "name": "CI", "path": ".github/workflows/ci.yml"},
        "repository": REPOSITORY,
        "sender": _SENDER,
    }


def deployment_status(state: str = "success", **deployment: object) -> Payload:
    """A status of a deployment."""
    return {
        "action": "created",
        "deployment_status": {
            "id": 55,
            "state": state,
            "environment": "production",
            "description": "rolled out",
            "log_url": "https://github.test/acme/shop/log",
            "target_url": "",
            "created_at": "2026-11-28T09:20:30Z",
            "updated_at": "2026-11-28T09:20:30Z",
        },
        "deployment": {
            "id": 54,
            "sha": "4f1c2ab",
            "ref": "main",
            "task": "deploy",
            "payload": {},
            "environment": "production",
            "transient_environment": False,
            "description": None,
            "created_at": "2026-11-28T09:20:00Z",
            **deployment,
        },
        "check_run": None,
        "workflow_run": None,
        "repository": REPOSITORY,
        "sender": _SENDER,
    }


def github_release(action: str = "published", **members: object) -> Payload:
    """A release of GitHub."""
    return {
        "action": action,
        "release": {
            "id": 8,
            "tag_name": "v1.2.0",
            "name": "Hats",
            "body": "The shop sells hats.\r\n",
            "draft": False,
            "prerelease": False,
            "html_url": "https://github.test/acme/shop/releases/tag/v1.2.0",
            "created_at": "2026-11-28T08:00:00Z",
            "published_at": "2026-11-28T09:30:00Z",
            "assets": [],
            **members,
        },
        "repository": REPOSITORY,
        "sender": _SENDER,
    }


def push(ref: str = "refs/heads/main", **members: object) -> Payload:
    """A push to GitHub."""
    return {
        "ref": ref,
        "before": "0" * 40,
        "after": "4f1c2ab",
        "created": False,
        "deleted": False,
        "forced": False,
        "base_ref": None,
        "compare": "https://github.test/acme/shop/compare/a...b",
        "commits": [{"id": "4f1c2ab", "message": "Sell hats"}, {"id": "4f1c2aa", "message": "Hats"}],
        "head_commit": {"id": "4f1c2ab", "message": "Sell hats", "timestamp": "2026-11-28T08:59:00+01:00"},
        "repository": REPOSITORY,
        "pusher": {"name": "ann"},
        "sender": _SENDER,
        **members,
    }


PROJECT: Payload = {
    "id": 12,
    "name": "Shop",
    "web_url": "https://gitlab.test/acme/shop",
    "path_with_namespace": "acme/shop",
    "default_branch": "main",
}


def gitlab_headers(kind: str = "Pipeline Hook", key: str | None = "a5461c4d-0001") -> dict[str, str]:
    """The headers of a webhook of GitLab; before 17.4 without a key."""
    headers = {
        "content-type": "application/json",
        "user-agent": "GitLab/18.2.0",
        "x-gitlab-event": kind,
        "x-gitlab-instance": "https://gitlab.test",
        "x-gitlab-webhook-uuid": "02affd2d-0002",
        "x-gitlab-event-uuid": "13792a34-0003",
    }
    return headers if key is None else {**headers, "idempotency-key": key}


def pipeline(status: str = "success", **members: object) -> Payload:
    """A pipeline of GitLab."""
    return {
        "object_kind": "pipeline",
        "object_attributes": {
            "id": 310,
            "iid": 30,
            "name": None,
            "ref": "main",
            "tag": False,
            "sha": "bcbb5ec",
            "source": "push",
            "status": status,
            "detailed_status": "passed",
            "created_at": "2026-11-28 09:00:00 UTC",
            "finished_at": "2026-11-28 09:03:20 UTC",
            "duration": 63,
            "queued_duration": 10,
            "variables": [{"key": "TOKEN", "value": "hidden"}],
            "url": "https://gitlab.test/acme/shop/-/pipelines/310",
            **members,
        },
        "merge_request": None,
        "user": {"id": 1, "username": "ann", "email": "[REDACTED]"},
        "project": PROJECT,
        "commit": {"id": "bcbb5ec", "title": "Sell hats", "message": "Sell hats\n"},
        "builds": [],
    }


def gitlab_deployment(status: str = "success", **members: object) -> Payload:
    """A deployment of GitLab."""
    return {
        "object_kind": "deployment",
        "status": status,
        "status_changed_at": "2026-11-28 10:20:00 +0100",
        "deployment_id": 15,
        "deployable_id": 796,
        "deployable_url": "https://gitlab.test/acme/shop/-/jobs/796",
        "environment": "production",
        "environment_tier": "production",
        "environment_slug": "production",
        "project": PROJECT,
        "short_sha": "279484c0",
        "user": {"id": 1, "username": "ann"},
        "commit_title": "Sell hats",
        "ref": "main",
        **members,
    }


def gitlab_release(action: str = "create", **members: object) -> Payload:
    """A release of GitLab."""
    return {
        "object_kind": "release",
        "id": 1,
        "action": action,
        "tag": "v1.2.0",
        "name": "Hats",
        "description": "The shop sells hats.",
        "created_at": "2026-11-28 09:25:00 UTC",
        "released_at": "2026-11-28 09:30:00 UTC",
        "url": "https://gitlab.test/acme/shop/-/releases/v1.2.0",
        "project": PROJECT,
        "commit": {"id": "ee0a3fb", "title": "Release"},
        "assets": {"count": 0, "links": [], "sources": []},
        **members,
    }
