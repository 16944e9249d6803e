"""kubectl without a cluster: whether it takes a command line."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from chart.helm import RUN, unpacked
from chart.pods import Object

#: Nothing listens there.
CLUSTER = """\
apiVersion: v1
kind: Config
current-context: none
clusters: [{name: none, cluster: {server: "http://127.0.0.1:1"}}]
contexts: [{name: none, context: {cluster: none, user: none}}]
users: [{name: none, user: {}}]
"""

#: Texts of kubectl's error where it understands the command and reaches no cluster.
NOT_REACHED = ("was refused", "connection refused")


def understood(folder: Path, words: Sequence[str]) -> str | None:
    """Run a command line of kubectl; return None if only the cluster was missing, else what it said.

    :param folder: with the files that it reads.
    :param words: without ``kubectl``.
    """
    done = _run(folder, words)
    said = done.stdout + done.stderr
    return None if done.returncode == 0 or any(text in said for text in NOT_REACHED) else said


def secret_of(folder: Path, words: Sequence[str]) -> Object:
    """Return the Secret that a command line would create."""
    done = _run(folder, [*words, "--dry-run=client", "--output=json"])
    assert done.returncode == 0, done.stderr
    made: Object = json.loads(done.stdout)
    return made


def _run(folder: Path, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    (config := folder / "kubeconfig").write_text(CLUSTER)
    return subprocess.run(
        [str(unpacked() / "kubectl"), *words],
        cwd=folder,
        env={**os.environ, "HOME": str(folder), "KUBECONFIG": str(config)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN,
    )
