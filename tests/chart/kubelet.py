"""What a kubelet does with a pod, as far as one machine has it: volumes, variables, containers, probes.

A container runs in a mount namespace with the paths of the pod, and in the network namespace of its pod, with
the user, the groups and the read-only root that the pod asks for. Its programs are those of this machine's
environment, in place of the image's.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from attrs import frozen
from support.daemon import REPOSITORY
from support.processes import Process

from chart.pods import Object

#: The image's entry point, which the arguments of a container follow.
ENTRY_POINT = (
    *("twistd", "--nodaemon", "--pidfile=", "oneshot"),
    *("--config", "/etc/oneshotd/oneshotd.toml"),
)
#: The environment that the image has.
OF_THE_IMAGE = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "STATE_DIRECTORY": "/data"}
DIRECTORY = "/data"

#: Seconds after which a network namespace ends that nobody closed.
LIFETIME = 300

_REFERENCE = re.compile(r"\$(\$|\(([A-Za-z_][A-Za-z0-9_]*)\))")


@frozen(kw_only=True)
class Network:
    """The network namespace of a pod: a loopback, on which every port is free.

    :ivar prefix: runs a command in it.
    """

    prefix: tuple[str, ...]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it."""
        return subprocess.run([*self.prefix, *command], capture_output=True, text=True, timeout=60)

    def curl(self, url: str, *words: str, seconds: float = 10) -> subprocess.CompletedProcess[str]:
        """Request a URL from inside."""
        command = [
            *self.prefix,
            "curl",
            "--silent",
            "--noproxy",
            "*",
            "--max-time",
            f"{seconds:g}",
            *words,
            url,
        ]
        return subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30)


@contextmanager
def network() -> Iterator[Network]:
    """A network namespace; it is gone with the last process in it."""
    script = f"ip link set lo up && echo up && exec sleep {LIFETIME}"
    with subprocess.Popen(
        ["unshare", "--net", "sh", "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as keeper:
        try:
            assert keeper.stdout is not None
            assert keeper.stdout.readline() == "up\n", "there is no network namespace"
            yield Network(prefix=("nsenter", "--net", "--target", str(keeper.pid)))
        finally:
            keeper.kill()


class Volume:
    """The files of a ConfigMap or Secret, which change all at once: a link leads to the folder with them."""

    def __init__(self, folder: Path, files: Mapping[str, bytes], mode: int, group: int | None) -> None:
        self.folder = folder
        self._mode, self._group = mode, group
        self._versions = count(1)
        folder.mkdir(mode=0o755)
        self.update(files)

    def update(self, files: Mapping[str, bytes]) -> None:
        """Replace all files."""
        version = self.folder / f"..version-{next(self._versions)}"
        version.mkdir(mode=0o755)
        for name, content in files.items():
            file = version / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            file.chmod(self._mode if self._group is None else self._mode | 0o440)
            os.chown(file, 0, 0 if self._group is None else self._group)
        link = self.folder / "..data_tmp"
        link.symlink_to(version.name)
        link.rename(self.folder / "..data")
        for name in files:
            shown = self.folder / name.partition("/")[0]
            if not shown.is_symlink():
                shown.symlink_to(Path("..data") / shown.name)


class PodOnThisMachine:
    """A pod of rendered objects.

    :param spec: of the pod.
    :param objects: where its ConfigMaps and Secrets are, those of the user included.
    :param claims: folders of its claimed volumes, by the volume's name; they outlive the pod.
    :param extra: further (source, target) mounts, in place of what the network would have.
    """

    def __init__(
        self,
        folder: Path,
        spec: Object,
        objects: Sequence[Object],
        *,
        network: Network,
        name: str,
        namespace: str,
        claims: Mapping[str, Path] | None = None,
        extra: Sequence[tuple[Path, str]] = (),
    ) -> None:
        self.folder = folder
        self.spec = spec
        self.network = network
        self._objects = {(one["kind"], one["metadata"]["name"]): one for one in objects}
        self._fields = {
            "metadata.name": name,
            "metadata.namespace": namespace,
            "status.podIP": "127.0.0.1",
            "spec.nodeName": "node-a",
        }
        self._claims = dict(claims or {})
        self._extra = extra
        self._numbers = count(1)
        folder.mkdir(parents=True, exist_ok=True)
        self.volumes: dict[str, Volume | Path] = {}
        for volume in spec.get("volumes", []):
            self.volumes[volume["name"]] = self._volume(volume)
        hosts = ["127.0.0.1 localhost"]
        for kind, service in self._objects:
            if kind == "Service":  # in place of the cluster's DNS
                short = f"{service}.{namespace}"
                hosts.append(f"127.0.0.1 {service} {short} {short}.svc {short}.svc.cluster.local")
        (folder / "hosts").write_text("\n".join([*hosts, ""]))
        (folder / "empty").write_text("")

    @property
    def container(self) -> Object:
        """Its only container."""
        (container,) = self.spec["containers"]
        found: Object = container
        return found

    def process(self, name: str, command: Sequence[str] | None = None) -> Process:
        """Return the process of the container; or of another command in it, as ``kubectl exec`` runs it."""
        container = self.container
        environment = self.environment()
        if command is None:
            command = [
                self._expanded(word, environment)
                for word in (*container.get("command", ENTRY_POINT), *container.get("args", []))
            ]
        context = {**self.spec.get("securityContext", {}), **container.get("securityContext", {})}
        group = context.get("fsGroup")
        root = Path(tempfile.mkdtemp(prefix="root-", dir=self.folder))
        wanted = {
            "root": str(root),
            "mounts": [*self._programs(), *self._mounts()],
            "writable": not context.get("readOnlyRootFilesystem", False),
            "uid": context["runAsUser"],
            "gid": context["runAsGroup"],
            "groups": [] if group is None else [group],
            "directory": container.get("workingDir", DIRECTORY),
            "environment": environment,
            "command": list(command),
        }
        file = self.folder / f"{name}-{next(self._numbers)}.json"
        file.write_text(json.dumps(wanted))
        words = (*self.network.prefix, "unshare", "--mount", sys.executable, "-m", "chart.enter", str(file))
        path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
        return Process(name, words, self.folder, {"PATH": os.environ["PATH"], "PYTHONPATH": path})

    def run(self, *command: str, seconds: float = 60) -> str:
        """Run the container's command, or another one, to its end; return its log.

        :raises AssertionError: its status is not 0, or it takes too long.
        """
        process = self.process(f"run-{next(self._numbers)}", command or None)
        process.start(lambda: True)
        process.await_end(seconds)
        return process.log_text()

    def environment(self) -> dict[str, str]:
        """Return the variables of the container."""
        made = dict(OF_THE_IMAGE)
        for variable in self.container.get("env", []):
            if "valueFrom" in variable:
                made[variable["name"]] = self._value(variable["valueFrom"])
            else:
                made[variable["name"]] = self._expanded(variable.get("value", ""), made)
        return made

    def answers(self, probe: Object) -> bool:
        """Return whether a probe of the container succeeds."""
        seconds = probe.get("timeoutSeconds", 1)
        if "exec" in probe:
            try:
                self.run(*probe["exec"]["command"], seconds=seconds + 10)
            except AssertionError:
                return False
            return True
        get = probe["httpGet"]
        scheme = get.get("scheme", "HTTP").lower()
        words = [
            "--insecure",
            "--user-agent",
            "kube-probe/1.31",
            "--output",
            os.devnull,
            "--write-out",
            "%{http_code}",
        ]
        for header in get.get("httpHeaders", []):
            words += ["--header", f"{header['name']}: {header['value']}"]
        url = f"{scheme}://127.0.0.1:{self.port(get['port'])}{get['path']}"
        done = self.network.curl(url, *words, seconds=seconds)
        return done.returncode == 0 and 200 <= int(done.stdout) < 400

    def port(self, wanted: str | int, protocol: str = "TCP") -> int:
        """Return the number of a port of the container."""
        if isinstance(wanted, int):
            return wanted
        (number,) = [
            port["containerPort"]
            for port in self.container["ports"]
            if port.get("name") == wanted and port.get("protocol", "TCP") == protocol
        ]
        found: int = number
        return found

    def _programs(self) -> list[list[str]]:
        """Return the mounts of this machine's programs, and of files that image and cluster have."""
        folders = {"/usr", sys.prefix, sys.base_prefix, str(Path(sys.executable).resolve().parent)}
        needed = sorted(one for one in folders if one == "/usr" or not one.startswith("/usr/"))
        mounts = [[one, one, "ro"] for one in needed]
        for file in ("/etc/ld.so.cache", "/etc/nsswitch.conf", "/etc/ssl"):
            if Path(file).exists():
                mounts.append([file, file, "ro"])
        mounts.append([str(self.folder / "hosts"), "/etc/hosts", "ro"])
        mounts.append([str(self.folder / "empty"), "/etc/oneshotd/oneshotd.toml", "ro"])
        mounts.append([str(self.folder / "empty"), "/etc/passwd", "ro"])
        mounts += [[str(source), target, "rw"] for source, target in self._extra]
        return mounts

    def _mounts(self) -> Iterator[list[str]]:
        mounted = [mount["mountPath"] for mount in self.container.get("volumeMounts", [])]
        if DIRECTORY not in mounted:
            folder = self.folder / "directory"
            folder.mkdir(exist_ok=True)  # of the image
            yield [str(folder), DIRECTORY, "ro"]
        for mount in sorted(self.container.get("volumeMounts", []), key=lambda one: str(one["mountPath"])):
            volume = self.volumes.get(mount["name"]) or self._claims[mount["name"]]
            source = volume.folder if isinstance(volume, Volume) else volume
            source /= mount.get("subPath", "")
            read_only = mount.get("readOnly", False) or isinstance(volume, Volume)
            yield [str(source), mount["mountPath"], "ro" if read_only else "rw"]

    def _volume(self, volume: Object) -> Volume | Path:
        group = self.spec.get("securityContext", {}).get("fsGroup")
        folder = self.folder / f"volume-{volume['name']}"
        for kind, field, key in (("ConfigMap", "configMap", "name"), ("Secret", "secret", "secretName")):
            if field in volume:
                source = volume[field]
                files = content(self._objects[kind, source[key]])
                if "items" in source:
                    files = {item["path"]: files[item["key"]] for item in source["items"]}
                return Volume(folder, files, source.get("defaultMode", 0o644), group)
        if "persistentVolumeClaim" in volume:
            return self._claims[volume["persistentVolumeClaim"]["claimName"]]
        assert "emptyDir" in volume, f"a kind of volume that is not known here: {volume}"
        return writable(folder, group)

    def _value(self, source: Object) -> str:
        if "fieldRef" in source:
            return self._fields[source["fieldRef"]["fieldPath"]]
        for kind, field in (("Secret", "secretKeyRef"), ("ConfigMap", "configMapKeyRef")):
            if field in source:
                files = content(self._objects[kind, source[field]["name"]])
                return files[source[field]["key"]].decode()
        raise AssertionError(f"a source of a variable that is not known here: {source}")

    @staticmethod
    def _expanded(text: str, environment: Mapping[str, str]) -> str:
        """Return the text with its ``$(NAME)`` replaced, as Kubernetes does; one that is not set stays."""

        def replaced(found: re.Match[str]) -> str:
            return "$" if found[1] == "$" else environment.get(found[2], found[0])

        return _REFERENCE.sub(replaced, text)


def content(one: Object) -> dict[str, bytes]:
    """Return the files of a ConfigMap or Secret."""
    files: dict[str, Any] = {name: text.encode() for name, text in one.get("stringData", {}).items()}
    for name, text in one.get("data", {}).items():
        files[name] = base64.b64decode(text, validate=True) if one["kind"] == "Secret" else text.encode()
    return files


def writable(folder: Path, group: int | None) -> Path:
    """Return a new folder of root's that the group can write, as the kubelet makes it for fsGroup."""
    folder.mkdir(mode=0o755)
    os.chown(folder, 0, 0 if group is None else group)
    folder.chmod(0o777 if group is None else 0o2775)
    return folder


def missing() -> str | None:
    """Return why pods cannot run on this machine; None if they can."""
    if os.geteuid() != 0:
        return "mounts and other users take root"
    for tool in ("unshare", "nsenter", "ip", "mount", "curl"):
        if shutil.which(tool) is None:
            return f"there is no {tool} here"
    tried = subprocess.run(
        ["unshare", "--mount", "--net", "true"], capture_output=True, text=True, timeout=60
    )
    return None if tried.returncode == 0 else f"no namespaces here: {tried.stderr.strip()}"
