"""Real Alertmanagers, alone or as peers of a cluster, in folders and on ports of their own."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from support.daemon import BROWSER, environment
from support.disks import skip_or_fail
from support.processes import Process, free_port

#: All alerts go to a webhook, at once, and again each two seconds as long as they fire.
CONFIG = """\
route:
  receiver: oneshotd
  group_by: [alertname]
  group_wait: 1s
  group_interval: 1s
  repeat_interval: 2s
receivers:
  - name: oneshotd
    webhook_configs:
      - url: {url}
        send_resolved: true
"""

#: Its event recorder, since 0.33 with `RECORDER_OPTION`, posts to the same place.
RECORDER = """\
event_recorder:
  webhook_outputs:
    - url: {url}
"""
RECORDER_OPTION = "--enable-feature=event-recorder"

#: Where Debian's Alertmanager has its templates, installed or not.
TEMPLATES = "usr/share/prometheus/alertmanager/default.tmpl"


class Alertmanager:
    """One server; as a context manager it starts, and is killed at the end.

    :param root: of the unpacked package ``prometheus-alertmanager``.
    :param config: text of its configuration.
    :param peers: others of its cluster that run already.
    :param options: more of its command line.
    """

    def __init__(
        self,
        root: Path,
        folder: Path,
        config: str,
        *,
        name: str = "alertmanager",
        peers: Sequence[Alertmanager] = (),
        options: Sequence[str] = (),
    ) -> None:
        self.port, self.cluster_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._amtool = root / "usr/bin/amtool"
        self._config = config
        command = (
            *_with_templates(root),
            str(root / "usr/bin/prometheus-alertmanager"),
            f"--config.file={folder / 'alertmanager.yml'}",
            f"--storage.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            f"--cluster.listen-address=127.0.0.1:{self.cluster_port}",
            *(f"--cluster.peer=127.0.0.1:{peer.cluster_port}" for peer in peers),
            # Each peer sends what the others send, too, as after a loss of their connection.
            "--cluster.peer-timeout=0s",
            *options,
        )
        self.process = Process(name, command, folder, environment())

    def __enter__(self) -> Alertmanager:
        self.process.folder.mkdir(parents=True, exist_ok=True)
        (self.process.folder / "alertmanager.yml").write_text(self._config)
        self.process.start(self._is_ready)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()

    def amtool(self, *words: str) -> str:
        """Run ``amtool``, and return what it writes."""
        command = (str(self._amtool), f"--alertmanager.url={self.url}", *words)
        done = subprocess.run(
            command, cwd=self.process.folder, env=environment(), capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def peers(self) -> int:
        """Return how many peers its cluster has, itself included."""
        return len(self._json("/api/v2/status")["cluster"].get("peers", ()))

    def alerts(self) -> list[dict[str, Any]]:
        """Return the alerts that fire."""
        found: list[dict[str, Any]] = self._json("/api/v2/alerts")
        return found

    def sent(self) -> int:
        """Return the number of webhooks that were sent, and answered with 200."""
        return self._count("alertmanager_notifications_total") - self.failed()

    def failed(self) -> int:
        """Return the number of webhooks that were refused or not answered."""
        return self._count("alertmanager_notifications_failed_total")

    def _count(self, name: str) -> int:
        rows = re.findall(
            rf'^{name}\{{.*integration="webhook".*\}} (\S+)$', self._get("/metrics"), re.MULTILINE
        )
        return int(sum(map(float, rows)))

    def _is_ready(self) -> bool:
        try:
            self._get("/-/ready")
        except OSError:
            return False
        return True

    def _json(self, path: str) -> Any:
        return json.loads(self._get(path))

    def _get(self, path: str) -> str:
        with BROWSER.open(self.url + path, timeout=10) as answer:
            return str(answer.read().decode())


def _with_templates(root: Path) -> tuple[str, ...]:
    """Return what starts a program with the package's files in the place where it looks for them."""
    if Path("/", TEMPLATES).exists():
        return ()
    mount = f"mount --bind {shlex.quote(str(root / 'usr/share'))} /usr/share"
    if shutil.which("unshare") is None or subprocess.run(("unshare", "-rm", "sh", "-ec", mount)).returncode:
        skip_or_fail("a mount namespace is needed for the templates of Alertmanager, and not permitted here")
    return ("unshare", "-rm", "sh", "-ec", f'{mount}; exec "$@"', "sh")
