"""docs/kubernetes.md: its commands are taken, its values render, and an event is on the graph in the end."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.debian_packages import REPOSITORY, fetch
from support.processes import until
from support.prometheus import Prometheus
from support.security_pages import block, blocks

from chart import mount_rules, name_rules, schemas, security_rules, selector_rules
from chart.helm import Helm
from chart.installation import NAMESPACE, RELEASE, Installation, clean, running
from chart.kubectl import secret_of, understood
from chart.kubelet import network
from chart.operator_config import TARGET, configuration, reloaded
from chart.pods import Object
from chart.user_files import UserFiles, secret

PAGE = REPOSITORY / "docs" / "kubernetes.md"

VALUES = ("values", "values_locked", "values_netpol", "values_database", "values_backup")
COMMANDS = ("image", "install", "first", "graph", "secrets", "database", "upgrade", "backup")

#: Files that the page's commands read, and the Secrets that others make.
FILES = ("web.yml", "access.toml", "emit.toml", "token", "ca.crt", "password", "scrape-token")
MADE_BY_OTHERS = {
    ("Secret", "events-tls"): frozenset(("tls.crt", "tls.key", "ca.crt")),
}


def commands(kind: str) -> list[list[str]]:
    """Return the command lines of a block, in words; continued ones in one."""
    text = block(PAGE, kind).replace("\\\n", " ")
    return [shlex.split(_plain(line), comments=True) for line in text.splitlines()]


def _plain(line: str) -> str:
    """Return the command of a line without what only a shell does: an assignment, redirection, background."""
    line = re.sub(r"^\w+=\$\((.*)\)$", r"\1", line)
    return re.sub(r"( > \S+| &)$", "", line)


def values(kind: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(block(PAGE, kind))
    return loaded


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files that the commands read."""
    for name in FILES:
        (tmp_path / name).write_text("x")
    (tmp_path / "events.yaml").write_text(block(PAGE, "values"))
    return tmp_path


def secrets(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the Secrets that the page makes."""
    for kind in ("secrets", "database"):
        for words in commands(kind):
            yield secret_of(folder, words[1:])


def test_every_block_is_known() -> None:
    """A block of another kind would be tested by nothing."""
    found = re.findall(r"^```(\w+)(?: (\w+))?$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    kinds = {named or language for language, named in found}
    assert kinds == {*VALUES, *COMMANDS, "prometheus", "promql", "web", "access"}
    for kind in ("values", "install", "prometheus"):
        assert len(blocks(PAGE, kind)) == 1


def test_kubectl_takes_its_commands(helm: Helm, folder: Path) -> None:
    for kind in COMMANDS:
        for words in commands(kind):
            if words[0] == "kubectl":
                assert understood(folder, words[1:]) is None, words
                assert words[1:3] == ["--namespace", NAMESPACE]


def test_helm_takes_its_commands(helm: Helm, folder: Path) -> None:
    """With the flags of the page; what needs a cluster is done by `helm template`."""
    (install, test), (upgrade,) = commands("install"), commands("upgrade")
    assert [words[:3] for words in (install, test, upgrade)] == [
        ["helm", "install", RELEASE],
        ["helm", "test", RELEASE],
        ["helm", "upgrade", RELEASE],
    ]
    for words in (install, upgrade):
        assert words[3] == "etc/helm/oneshotd"
        known = helm.run(words[1], "--help")
        for word in words:
            if word.startswith("--"):
                assert f" {word}" in known, word
        file = words[words.index("--values") + 1]
        rest = [word for word in words[4:] if word not in ("--create-namespace", "--wait", "--values", file)]
        assert rest == ["--namespace", NAMESPACE]
    assert test[3:] == ["--namespace", NAMESPACE]


@pytest.mark.usefixtures("known_schemas")
def test_its_values_make_valid_objects(helm: Helm, folder: Path) -> None:
    """With the Secrets that the page makes, and those that others make."""
    outside = {
        ("Secret", one["metadata"]["name"]): frozenset(one.get("data", {})) for one in secrets(folder)
    } | MADE_BY_OTHERS
    everything: list[Object] = []
    for kind in VALUES:
        objects = helm.render(values(kind), name=RELEASE, namespace=NAMESPACE).objects
        assert list(name_rules.complaints(objects)) == []
        assert list(selector_rules.complaints(objects, NAMESPACE)) == []
        assert list(mount_rules.complaints(objects, outside)) == []
        assert list(security_rules.complaints(objects)) == []
        for monitor in (one for one in objects if one["kind"] == "ServiceMonitor"):
            for name, key in _references(monitor):
                assert key in outside["Secret", name], (name, key)
        everything += objects
    assert set(schemas.complaints([("1.37", one) for one in everything])) == {""}


def _references(value: Any) -> Iterator[tuple[str, str]]:
    """Yield (Secret, key) of everything that a monitor takes from a Secret."""
    if isinstance(value, dict):
        if value.keys() == {"name", "key"}:
            yield value["name"], value["key"]
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


@pytest.mark.usefixtures("pods_run")
def test_five_minutes(helm: Helm, tmp_path: Path) -> None:
    """The test's event and that of curl are on the graph of a real Prometheus."""
    installed = Installation(tmp_path, helm, values("values"))
    text = configuration(installed.release.one("ServiceMonitor"), [TARGET]).replace("15s", "1s")
    text = reloaded(text.replace("10s", "1s"), {"POD_NAME": "prometheus-k8s-0"})
    (send,) = [words[1:] for words in commands("first") if words[0] == "curl"]
    query = block(PAGE, "promql").strip()
    link = PAGE.read_text(encoding="utf-8")
    assert query.replace(" ", "%20").replace("[", "%5B").replace("]", "%5D") in link
    with network() as line, running(installed.pod(line)):
        installed.emitter("Pod", line).run()
        done = line.curl(send.pop(), "--fail", *send)
        assert done.stdout == "ok\n", done
        program = fetch("prometheus") / "usr/bin/prometheus"
        with Prometheus(program, tmp_path / "p", text, prefix=line.prefix) as prometheus:
            wanted = {'type="deploy"': 1.0, 'type="helm_test"': 1.0}
            until(lambda: prometheus.by_labels(query) == wanted, 30, lambda: str(prometheus.query(query)))


@pytest.mark.usefixtures("pods_run")
def test_its_locks_open_for_its_clients(helm: Helm, tmp_path: Path) -> None:
    """The daemon starts with the page's web configuration and rules."""
    files = UserFiles(tmp_path / "keys", "events-oneshotd")
    made = [
        {**files.certificate, "metadata": {"name": "events-tls"}},
        secret("events-web", {"web.yml": block(PAGE, "web")}),
        secret("events-access", {"access.toml": block(PAGE, "access")}),
        secret("events-emit", {}),
    ]
    installed = Installation(tmp_path, helm, values("values_locked"), secrets=made)
    with network() as line, running(installed.pod(line)) as daemon:
        assert clean(daemon.log_text())
        done = line.curl(
            f"https://{installed.host}:8090/metrics",
            *("--resolve", f"{installed.host}:8090:127.0.0.1", "--cacert", str(files.authority.cert)),
            *("--fail", "--header", "Authorization: Bearer oneshot_scrape"),
        )
        assert "oneshotd_build_info" in done.stdout, done


@pytest.mark.usefixtures("pods_run")
def test_a_backup_is_made_and_read(helm: Helm, tmp_path: Path) -> None:
    """By the commands of the page, in the pod."""
    installed = Installation(tmp_path, helm, values("values_backup"))
    make, read, remove = (words[words.index("--") + 1 :] for words in commands("backup"))
    with network() as line:
        pod = installed.pod(line)
        with running(pod):
            file = pod.run(*make).strip()
            assert file.startswith("/data/oneshotd-")
            copied = pod.run(*(word.replace("$file", file) for word in read))
            assert copied.startswith("SQLite format 3")
            pod.run(*(word.replace("$file", file) for word in remove))
            assert not list(installed.claims["data"].glob("oneshotd-*"))


def test_promtool_takes_its_job(tmp_path: Path) -> None:
    (file := tmp_path / "prometheus.yml").write_text(block(PAGE, "prometheus"))
    promtool = fetch("prometheus") / "usr/bin/promtool"
    done = subprocess.run([promtool, "check", "config", file], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
