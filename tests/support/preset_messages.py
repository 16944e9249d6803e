"""A good message of each kind of each preset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from support.forge_payloads import (
    deployment_status,
    github_headers,
    github_release,
    gitlab_deployment,
    gitlab_headers,
    gitlab_release,
    pipeline,
    push,
    workflow_run,
)
from support.hook_payloads import (
    RECORDED,
    alert,
    flux_event,
    kubernetes_event,
    new_kubernetes_event,
    notification,
    recorded,
)

#: Name of the preset, headers, payload.
GOOD: Sequence[tuple[str, Mapping[str, str], object]] = (
    ("alertmanager", {}, notification(alert(), alert("resolved"))),
    *(("alertmanager", {}, recorded(kind, data)) for kind, data in RECORDED.items()),
    ("alertmanager", {}, [recorded(kind, RECORDED[kind]) for kind in ("alertResolved", "alertCreated")]),
    ("github", github_headers("workflow_run"), workflow_run()),
    ("github", github_headers("deployment_status"), deployment_status()),
    ("github", github_headers("release"), github_release()),
    ("github", github_headers("push"), push()),
    ("gitlab", gitlab_headers("Pipeline Hook"), pipeline()),
    ("gitlab", gitlab_headers("Deployment Hook"), gitlab_deployment()),
    ("gitlab", gitlab_headers("Release Hook"), gitlab_release()),
    ("flux", {"gotk-component": "kustomize-controller"}, flux_event()),
    ("kubernetes", {}, kubernetes_event()),
    ("kubernetes", {}, [kubernetes_event(), new_kubernetes_event()]),
)
