"""The schemas of Kubernetes' API and of the operator's objects, in an environment of their own.

Kubernetes' come from the package kubernetes-validate; those of ServiceMonitor, PodMonitor and PrometheusRule
from models that were made of the operator's definitions, in cloudcoil-models-prometheus-operator: its version
is the operator's. The models say which fields there are, of which types, and which are needed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from support.debian_packages import REPOSITORY

from chart.helm import Unavailable
from chart.pods import Object

REQUIREMENTS = (
    "kubernetes-validate==1.37.0",
    "cloudcoil==0.6.0",
    "cloudcoil-models-prometheus-operator==0.80.1.0",
)

#: Seconds to install some 30 MB, and to validate everything.
INSTALL, VALIDATE = 600, 300

PROCESS = Path(__file__).with_name("schema_process.py")


def environment() -> Path:
    """Return the environment with the schemas, which is made if need be.

    :raises Unavailable: the packages cannot be had.
    """
    key = _digest(*REQUIREMENTS, sys.version)
    room = REPOSITORY / ".cache" / "schemas"
    room.mkdir(parents=True, exist_ok=True)
    target = room / key
    with (room / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed
        if not (target / "complete").exists():
            shutil.rmtree(target, ignore_errors=True)
            _made([sys.executable, "-m", "venv", str(target)])
            pip = [str(target / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
            _made([*pip, "install", *REQUIREMENTS])
            (target / "complete").touch()
        if not (operators := _operators(target)).exists():
            new = operators.with_suffix(".new")
            _made([str(target / "bin" / "python"), str(PROCESS), "write", str(new)])
            new.rename(operators)
    return target


def _operators(target: Path) -> Path:
    """Return the file with the operator's schemas, which this state of `PROCESS` writes."""
    return target / f"operator-{_digest(PROCESS.read_text(encoding='utf-8'))}.json"


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]


def _made(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL)
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(command)}: {done.stdout[-500:]}{done.stderr[-500:]}")


def complaints(objects: Sequence[tuple[str, Object]]) -> list[str]:
    """Return what is wrong with each object for its version of Kubernetes; an empty text if nothing is."""
    target = environment()
    done = subprocess.run(
        [str(target / "bin" / "python"), str(PROCESS), "validate", str(_operators(target))],
        input=json.dumps(objects),
        capture_output=True,
        text=True,
        timeout=VALIDATE,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: list[str] = json.loads(done.stdout)
    return found
