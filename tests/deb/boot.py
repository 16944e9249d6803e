"""The package's service under a real systemd, process 1 of a clean tree: with the sandbox of its unit.

The host is kept out of it: systemd gets namespaces and a cgroup of its own, and /proc/sys and /sys
read-only. Where a systemd cannot run like that, that is said, and the rest of the trial counts.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deb.build import Unfit
from deb.inside import Tree, enter, run

#: Seconds for the boot and the script.
PATIENCE = 120.0

SCRIPT = "/root/check"
RESULT = "/root/result"
CONSOLE = "/root/console"
#: The script's last word.
DONE = "all as it should be"

UNIT = f"""\
[Unit]
Wants=oneshotd.service
After=oneshotd.service

[Service]
Type=oneshot
ExecStart={SCRIPT}
TimeoutStartSec={PATIENCE - 30:.0f}
ExecStopPost=/usr/bin/systemctl --force --force poweroff
"""

CHECK = f"""\
#!/bin/bash
exec > {RESULT} 2>&1
set -euxo pipefail
export AUTOPKGTEST_TMP=/root/work
mkdir $AUTOPKGTEST_TMP
cd $AUTOPKGTEST_TMP

: the events of debian/tests/service, delivered by what systemd has started
bash /srv/tests/service
systemctl show oneshotd --property=StatusText | grep -F 'serves HTTP on 127.0.0.1:8090, [::1]:8090'

: after a kill -9 it is started again
systemctl kill --signal=KILL oneshotd
until [ "$(systemctl show oneshotd --property=NRestarts --value)" = 1 ]; do sleep 0.1; done
curl --silent --fail --retry 30 --retry-delay 1 --retry-all-errors http://localhost:8090/readyz

: with the socket unit, no request is refused while it restarts
sed -i 's/^http = .*/http = ["systemd:domain=INET:name=oneshotd.socket"]/' /etc/oneshotd/oneshotd.toml
systemctl stop oneshotd
systemctl enable --now oneshotd.socket
systemctl start oneshotd
for n in $(seq 100); do
    curl --silent --show-error --fail -X POST "http://127.0.0.1:8090/event?n=$n" || echo "lost $n"
done > answers 2>&1 &
until [ -s answers ]; do sleep 0.05; done
systemctl restart oneshotd
systemctl restart oneshotd
wait $!
test "$(grep --count '^ok$' answers)" = 100 || {{ cat answers; exit 1; }}
curl --silent 'http://127.0.0.1:8090/metrics?scraper=ann' > metrics
test "$(grep --count '^events_to_metrics{{n=' metrics)" = 100

: a stop is clean, and nothing was to complain of
systemctl stop oneshotd.socket oneshotd
test "$(systemctl show oneshotd --property=Result --value)" = success
test "$(journalctl --identifier=twistd3 --output=cat | grep --count 'oneshotd is ready')" = 5
test -z "$(journalctl --identifier=twistd3 --priority=warning --quiet --output=cat)"
echo "{DONE}"
"""


def own_cgroup_mount() -> Path | None:
    """Where the machine has its second-version cgroups, if it has."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, options, *_ = line.split()
        if kind == "cgroup2" and "rw" in options.split(","):
            return Path(where)
    return None


@contextmanager
def _cgroup(top: Path) -> Iterator[Path]:
    """A cgroup for one systemd; gone at the end, as its processes are."""
    made = Path(tempfile.mkdtemp(dir=top, prefix="oneshotd-trial-"))
    try:
        yield made
    finally:
        until = time.monotonic() + 10
        while made.exists() and time.monotonic() < until:
            for folder, _, _ in os.walk(made, topdown=False):
                with suppress(OSError):  # its last process is just ending
                    os.rmdir(folder)
            time.sleep(0.05)


def under_systemd(root: Path, package: Path, tests: Path) -> str:
    """Boot the tree, with the package in it, and see how its service does: what came of it.

    :param package: the .deb.
    :param tests: debian/tests.
    :raises Unfit: the service does not do well.
    """
    top = own_cgroup_mount()
    if top is None:
        return "skipped: there is no cgroup2 here for a systemd of its own"
    (root / "srv/tests").mkdir()
    for path in [package, *tests.iterdir()]:
        target = root / "srv" / ("" if path == package else "tests") / path.name
        target.write_bytes(path.read_bytes())
    with _cgroup(top) as cgroup:
        command = [
            *("sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(cgroup)),
            *("unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup", "--fork", "--kill-child"),
            *(sys.executable, "-m", "deb", "inside", "boot", str(root)),
        ]
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(command, stdin=subprocess.DEVNULL, timeout=PATIENCE)
    result = root / RESULT.lstrip("/")
    if not result.exists():
        console = (root / CONSOLE.lstrip("/")).read_text(errors="replace")
        return f"skipped: systemd does not boot like this here\n{console[-2000:]}"
    said = result.read_text(errors="replace")
    if not said.rstrip().endswith(DONE):
        raise Unfit(f"under systemd the service does not do well\n{said[-6000:]}")
    return "started, killed, restarted behind its socket, stopped, all in its sandbox"


def boot(root: Path) -> None:
    """Become systemd in the tree; does not come back."""
    run("mount", "--make-rprivate", "/")
    # systemd wants its root to be a mount.
    run("mount", "--bind", str(root), str(root))
    enter(root)
    tree = Tree(root)
    (package,) = tree.path("/srv").glob("*.deb")
    tree.run("apt-get", "install", "--yes", "--no-install-recommends", f"/srv/{package.name}")
    tree.path("/etc/systemd/system/check.service").write_text(UNIT)
    tree.path(SCRIPT).write_text(CHECK)
    tree.path(SCRIPT).chmod(0o755)
    console = tree.path(CONSOLE)
    console.touch()
    tree.path("/dev/console").touch()
    run("mount", "--bind", str(console), str(root / "dev/console"))
    run("mount", "--bind", str(root / "proc/sys"), str(root / "proc/sys"))
    run("mount", "-o", "remount,bind,ro", str(root / "proc/sys"))
    run("mount", "-t", "sysfs", "-o", "ro,nosuid,nodev,noexec", "sysfs", str(root / "sys"))
    run("mount", "-t", "cgroup2", "cgroup2", str(root / "sys/fs/cgroup"))
    for name in ("run", "tmp"):
        run("mount", "-t", "tmpfs", "-o", "nosuid,nodev", "tmpfs", str(root / name))
    os.chdir(root)
    run("mount", "--move", ".", "/")
    os.chroot(".")
    os.chdir("/")
    words = ["systemd", "--system", "--unit=check.service", "--log-target=console", "--show-status=no"]
    os.execve("/lib/systemd/systemd", words, {"container": "other", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
