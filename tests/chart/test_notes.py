"""What helm prints after an installation: its commands work, and its warnings come where they belong."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from chart.helm import CHART, Helm
from chart.installation import NAMESPACE, RELEASE, Installation, events, running, scrape
from chart.kubectl import understood
from chart.kubelet import network

#: A ConfigMap with the notes: `helm template` does not show them, and `helm install` wants a cluster.
SHOWN = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: notes}
data: {text: {{ tpl (.Files.Get "notes.txt") . | toJson }}}
"""

_COMMAND = re.compile(r"^ {4}((?:kubectl|curl|helm) .*)$", re.MULTILINE)

MONITORED = {"scrape": {"by": "serviceMonitor", "labels": {"release": "kube-prometheus-stack"}}}
POSTGRESQL = {"store": {"kind": "postgresql", "secretName": "database"}, "replicaCount": 2}
LOCKED = {"webConfig": {"secretName": "web", "tls": True}, "access": {"secretName": "access"}}


@pytest.fixture(scope="module")
def chart_with_notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("notes") / "oneshotd"
    shutil.copytree(CHART, copy)
    (copy / "templates" / "NOTES.txt").rename(copy / "notes.txt")
    (copy / "templates" / "notes.yaml").write_text(SHOWN)
    return copy


def notes(helm: Helm, chart: Path, values: dict[str, Any]) -> str:
    release = helm.render(values, name=RELEASE, namespace=NAMESPACE, chart=chart)
    (found,) = [one for one in release.of("ConfigMap") if one["metadata"]["name"] == "notes"]
    text: str = found["data"]["text"]
    return text


@pytest.mark.parametrize(
    "values",
    [{}, MONITORED, POSTGRESQL, LOCKED, {"service": {"port": 80}}, {"serviceName": "other"}],
    ids=["defaults", "monitored", "postgresql", "locked", "port", "name"],
)
def test_kubectl_takes_their_commands(
    values: dict[str, Any], helm: Helm, chart_with_notes: Path, tmp_path: Path
) -> None:
    """They name objects of the release, and flags that there are."""
    text = notes(helm, chart_with_notes, values)
    release = helm.render(values, name=RELEASE, namespace=NAMESPACE)
    there = {f"{one['kind'].lower()}/{one['metadata']['name']}" for one in release.objects}
    commands = [shlex.split(line) for line in _COMMAND.findall(text)]
    assert [words[0] for words in commands].count("kubectl") >= 3
    for words in commands:
        if words[0] == "kubectl":
            assert understood(tmp_path, words[1:]) is None
            assert words[1:3] == ["--namespace", NAMESPACE]
            named = [word for word in words if re.fullmatch(r"(service|statefulset|deployment)/\S+", word)]
            assert named, words
            assert set(named) <= there


@pytest.mark.usefixtures("pods_run")
def test_the_first_events_arrive(helm: Helm, chart_with_notes: Path, tmp_path: Path) -> None:
    """The command in the pod and that in another pod each send an event, and the page is there."""
    installed = Installation(tmp_path, helm, MONITORED)
    commands = [shlex.split(line) for line in _COMMAND.findall(notes(helm, chart_with_notes, MONITORED))]
    (inside,) = [words[words.index("--") + 1 :] for words in commands if "exec" in words]
    (outside,) = [words[1:] for words in commands if words[0] == "curl"]
    with network() as line:
        pod = installed.pod(line)
        (endpoint,) = installed.endpoints()
        with running(pod):
            pod.run(*inside)
            url = outside.pop()
            done = line.curl(url, "--fail", "--resolve", f"{installed.host}:8090:127.0.0.1", *outside)
            assert done.stdout == "ok\n", done
            found = events(scrape(installed, pod, endpoint, "prometheus-k8s-0"))
            assert found == ['events_to_metrics{from="me",type="hello"} 2']
            page = line.curl("http://localhost:8090/", "--fail", "--header", "Accept: text/html")
            assert "<html" in page.stdout


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"persistence": {"enabled": False}}, "go with the pod"),
        ({"netpol": {"generate": True}}, "NetworkPolicy"),
        ({**MONITORED, "webConfig": {"secretName": "web", "tls": True}}, "tlsConfig"),
        ({**MONITORED, "receivers": {"secretName": "receivers"}}, "twice"),
    ],
)
def test_warnings_come_where_they_belong(
    values: dict[str, Any], words: str, helm: Helm, chart_with_notes: Path
) -> None:
    assert "WARNING" not in notes(helm, chart_with_notes, MONITORED)
    text = notes(helm, chart_with_notes, values)
    assert words in text.partition("WARNING")[2]
