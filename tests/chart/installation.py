"""A release on this machine: its pods, and how a client and a Prometheus reach them."""

from __future__ import annotations

import os
import signal
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from support.processes import Process

from chart.helm import Helm
from chart.kubelet import Network, PodOnThisMachine, writable
from chart.pods import Object, pods

NAMESPACE = "monitoring"
RELEASE = "events"

#: The headers of a Prometheus.
PROMETHEUS = (
    *("--user-agent", "Prometheus/3.5.3", "--header", "X-Prometheus-Scrape-Timeout-Seconds: 10"),
    *("--header", "Accept: text/plain;version=0.0.4"),
)


class Installation:
    """The objects of a release, and those of the user beside them.

    :param secrets: the user's objects.
    :param extra: see `PodOnThisMachine`.
    """

    def __init__(
        self,
        folder: Path,
        helm: Helm,
        values: Mapping[str, Any],
        *,
        secrets: Sequence[Object] = (),
        extra: Sequence[tuple[Path, str]] = (),
    ) -> None:
        self.folder = folder
        self.release = helm.render(values, name=RELEASE, namespace=NAMESPACE)
        self.objects = (*self.release.objects, *secrets)
        (self.daemon,) = [pod for pod in pods(self.release.objects) if pod.daemon]
        (self.service,) = self.release.of("Service")
        group = self.daemon.spec["securityContext"]["fsGroup"]
        self.claims = {name: writable(folder / f"claim-{name}", group) for name in self.daemon.claims}
        self._extra = extra
        self._pods = 0

    @property
    def host(self) -> str:
        """The Service's name in the cluster."""
        return f"{self.service['metadata']['name']}.{NAMESPACE}.svc"

    def pod(self, network: Network, name: str | None = None) -> PodOnThisMachine:
        """Return a new pod of the daemon, as after a change of the template."""
        return self._pod(self.daemon.spec, network, name or f"{self.service['metadata']['name']}-0")

    def emitter(self, kind: str, network: Network) -> PodOnThisMachine:
        """Return the pod of `helm test` ("Pod"), or that of the test event ("CronJob")."""
        (found,) = [pod for pod in pods(self.release.objects) if pod.owner.startswith(f"{kind} ")]
        return self._pod(found.spec, network, "emitter")

    def _pod(self, spec: Object, network: Network, name: str) -> PodOnThisMachine:
        self._pods += 1
        return PodOnThisMachine(
            self.folder / f"pod-{self._pods}",
            spec,
            self.objects,
            network=network,
            name=name,
            namespace=NAMESPACE,
            claims=self.claims,
            extra=self._extra,
        )

    def endpoints(self) -> list[Object]:
        """Return the endpoints of its ServiceMonitor or PodMonitor."""
        for kind, field in (("ServiceMonitor", "endpoints"), ("PodMonitor", "podMetricsEndpoints")):
            for monitor in self.release.of(kind):
                found: list[Object] = monitor["spec"][field]
                return found
        return []


@contextmanager
def running(pod: PodOnThisMachine, name: str = "daemon") -> Iterator[Process]:
    """The daemon of a pod, started; its startup probe has succeeded, then the others."""
    container = pod.container
    probe = container["startupProbe"]
    process = pod.process(name)
    with ExitStack() as stack:
        stack.callback(process.kill)
        process.start(lambda: pod.answers(probe), probe["periodSeconds"] * probe["failureThreshold"])
        for kind in ("livenessProbe", "readinessProbe"):
            process.until(lambda kind=kind: pod.answers(container[kind]), 30, kind)  # type: ignore[misc]
        yield process


def stopped(pod: PodOnThisMachine, process: Process) -> None:
    """Stop a daemon as Kubernetes does: it must end before it would be killed."""
    sleep = pod.container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    os.kill(process.pid, signal.SIGTERM)
    # twistd ends by the signal; as process 1 of a container it ends with status 0.
    process.await_end(pod.spec["terminationGracePeriodSeconds"] - sleep, expected=-signal.SIGTERM)


def scrape(
    installation: Installation, pod: PodOnThisMachine, endpoint: Object, prometheus: str, *words: str
) -> str:
    """Return the response to a scrape of one pod by the endpoint of a monitor.

    :param prometheus: the name of the Prometheus' pod, which its reloader writes in place of ``$(POD_NAME)``.
    :param words: more of curl's command line.
    """
    port = pod.port(endpoint["port"])
    params = [
        (name, value.replace("$(POD_NAME)", prometheus))
        for name, values in endpoint.get("params", {}).items()
        for value in values
    ]
    query = f"?{urllib.parse.urlencode(params)}" if params else ""
    url = f"{endpoint['scheme']}://{installation.host}:{port}{endpoint['path']}{query}"
    resolve = f"{installation.host}:{port}:127.0.0.1"
    done = pod.network.curl(url, "--fail", "--resolve", resolve, *PROMETHEUS, *words)
    assert done.returncode == 0, f"curl: status {done.returncode}, {url}"
    return done.stdout


def events(response: str) -> list[str]:
    """Return the lines of events in a response, without their times."""
    return [line for line in response.splitlines() if line.startswith("events_to_metrics{")]


def clean(text: str) -> bool:
    """Return whether a log has no line that a healthy daemon never writes."""
    return not any(mark in text for mark in ("Traceback", "Unhandled", "[critical", "#critical", "#error"))
