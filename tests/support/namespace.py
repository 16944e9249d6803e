"""A network namespace with a loopback only, in which every port is free."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

#: Seconds after which a namespace ends that nobody closed.
LIFETIME = 300


@contextmanager
def own_loopback() -> Iterator[tuple[str, ...] | None]:
    """A prefix that runs a command in a new network namespace; None where that is not permitted.

    The namespace is gone with the last process in it.
    """
    tools = ("unshare", "nsenter", "ip", "sleep")
    if not all(shutil.which(tool) for tool in tools):
        yield None
        return
    keeper = subprocess.Popen(
        ["unshare", "-rn", "sh", "-c", f"ip link set lo up && echo up && exec sleep {LIFETIME}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with keeper:
        try:
            assert keeper.stdout is not None
            if keeper.stdout.readline() != "up\n":  # it ends at once where it is not permitted
                yield None
            else:
                yield ("nsenter", "--preserve-credentials", "-U", "-n", "-t", str(keeper.pid))
        finally:
            keeper.kill()
