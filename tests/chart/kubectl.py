"""kubectl without a cluster: whether it takes a command line."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from chart.helm import RUN, unpacked

#: Nothing listens there.
CLUSTER = """\
apiVersion: v1
kind: Config
current-context: none
clusters: [{name: none, cluster: {server: "http://127.0.0.1:1"}}]
contexts: [{name: none, context: {cluster: none, user: none}}]
users: [{name: none, user: {}}]
"""

#: What it says when all is well but the cluster.
NOT_REACHED = ("was refused", "connection refused")


def understood(folder: Path, words: Sequence[str], given: str = "") -> str | None:
    """Run a command line of kubectl; return None if only the cluster was missing, else what it said.

    :param words: without ``kubectl``.
    :param given: its standard input.
    """
    (config := folder / "kubeconfig").write_text(CLUSTER)
    done = subprocess.run(
        [str(unpacked() / "kubectl"), *words],
        cwd=folder,
        env={**os.environ, "HOME": str(folder), "KUBECONFIG": str(config)},
        input=given,
        capture_output=True,
        text=True,
        timeout=RUN,
    )
    said = done.stdout + done.stderr
    return None if done.returncode == 0 or any(text in said for text in NOT_REACHED) else said
