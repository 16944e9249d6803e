"""An API server that has discovery and some objects: as much of a cluster as helm's `lookup` asks for."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from chart.pods import Object

_GROUPS = {
    "apps/v1": {"Deployment": "deployments", "StatefulSet": "statefulsets"},
    "batch/v1": {"CronJob": "cronjobs"},
    "networking.k8s.io/v1": {"Ingress": "ingresses", "NetworkPolicy": "networkpolicies"},
    "policy/v1": {"PodDisruptionBudget": "poddisruptionbudgets"},
}
_CORE = {"ConfigMap": "configmaps", "Pod": "pods", "Service": "services"}


@contextmanager
def cluster(services: tuple[Object, ...], version: str = "v1.31.0") -> Iterator[str]:
    """Serve a cluster with these Services; the address is what ``--kube-apiserver`` takes."""
    answers = _discovery(version)
    for one in services:
        place = one["metadata"]
        answers[f"/api/v1/namespaces/{place['namespace']}/services/{place['name']}"] = one

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answers.get(self.path.partition("?")[0])
            missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound"}
            body = json.dumps(found if found is not None else {**missing, "code": 404}).encode()
            self.send_response(200 if found is not None else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Write nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _discovery(version: str) -> dict[str, Object]:
    major, minor, _ = version.removeprefix("v").split(".")
    groups = []
    answers: dict[str, Object] = {
        "/version": {"major": major, "minor": minor, "gitVersion": version},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/api/v1": _resources("v1", _CORE),
    }
    for group, kinds in _GROUPS.items():
        row = {"groupVersion": group, "version": group.partition("/")[2]}
        groups.append({"name": group.partition("/")[0], "versions": [row], "preferredVersion": row})
        answers[f"/apis/{group}"] = _resources(group, kinds)
    answers["/apis"] = {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    return answers


def _resources(group: str, kinds: Mapping[str, str]) -> Object:
    verbs = ["get", "list", "create", "patch", "delete"]
    rows = [
        {"name": plural, "singularName": "", "namespaced": True, "kind": kind, "verbs": verbs}
        for kind, plural in kinds.items()
    ]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group, "resources": rows}
