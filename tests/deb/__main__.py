"""``python -m deb build`` and ``python -m deb test``: what `make deb` and `make deb-test` run.

The first builds the Debian package in a clean tree; the second installs what was built in another,
and runs it there. Where that cannot be done they say why, and end with status 0.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from deb import boot, build, inside, tree, trial

RESULTS = build.REPOSITORY / "dist"


def main(words: list[str]) -> int:
    match words:
        case ["build"]:
            return _apart("build", [*build.build_depends(), *build.TOOLS])
        case ["test"]:
            return _apart("test", trial.PACKAGES)
        case ["inside", "boot", root]:
            boot.boot(Path(root))
            return 1
        case ["inside", task, root]:
            inside.enter(Path(root))
            if task == "build":
                return told("deb", lambda: build.build(Path(root), RESULTS))
            return told("deb", lambda: trial.trial(Path(root), RESULTS))
        case _:
            print(__doc__, file=sys.stderr)
            return 2


def told(name: str, step: Callable[[], None]) -> int:
    """Return the status of a step; a fault of what is tested is said without a traceback.

    :param name: of the program that says it.
    """
    try:
        step()
    except (build.Unfit, inside.Failed) as fault:
        print(f"{name}: {fault}")
        return 1
    return 0


def _boot(root: Path) -> None:
    said = boot.under_systemd(root, trial.package(RESULTS), build.REPOSITORY / "debian" / "tests")
    print(f"deb: under a real systemd: {said}")


def _apart(task: str, packages: Sequence[str]) -> int:
    began = time.monotonic()
    try:
        tree.check_machine()
        if task == "test" and not trial.package(RESULTS).exists():
            raise tree.Unable(f"there is no {trial.package(RESULTS)}; `make deb` builds it")
        with tree.unpacked(tree.archive(packages)) as root:
            status = inside.apart("deb", "inside", task, str(root))
        if task == "test" and status == 0:
            with tree.unpacked(tree.archive(packages)) as root:
                status = told("deb", lambda: _boot(root))
    except tree.Unable as reason:
        print(f"deb: {task} is skipped: {reason}")
        return 0
    print(f"deb: {task}: {'done' if status == 0 else 'FAILED'} after {time.monotonic() - began:.0f} s")
    return status


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.exit(main(sys.argv[1:]))
