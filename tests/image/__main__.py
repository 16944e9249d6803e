"""``python -m image build`` and ``python -m image test``: what `make image` and `make image-test` run.

The first makes a container image of the Debian package, in a clean tree; the second runs what was made in a
container runtime of that tree. Where that cannot be done they say why, and end with status 0.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import deb.__main__ as package
from deb import build as packaging
from deb import inside, tree
from deb.trial import package as package_file

from image import build, contents, trial

RESULTS = packaging.REPOSITORY / "dist"

#: In the tree: what the image has of Debian, beside oneshotd, and the tools.
PACKAGES = (
    *("python3-attr", "python3-klein", "python3-prometheus-client", "python3-twisted"),
    *(name for name in contents.ROOTS if name != "oneshotd"),
    *("systemd-standalone-sysusers", *contents.TOOLS),
)

#: Folders of the project that are not in the package.
NOT_PACKED = (".ci", "bench", "tests", "tools")


def main(words: list[str]) -> int:
    match words:
        case ["build" | "test" as task]:
            return _apart(task)
        case ["inside", "build", root]:
            inside.enter(Path(root))
            return package.told("image", lambda: build.build(Path(root), package_file(RESULTS), RESULTS))
        case ["inside", "test", root]:
            # A runtime changes its root, which the kernel refuses where that is no mount.
            inside.run("mount", "--make-rprivate", "/")
            inside.run("mount", "--bind", root, root)
            inside.enter(Path(root))
            inside.run("mount", "-t", "sysfs", "-o", "ro,nosuid,nodev,noexec", "sysfs", f"{root}/sys")
            # crun looks which version of cgroups there is, though it is told to use none.
            inside.run("mount", "-t", "tmpfs", "-o", "nosuid,nodev,noexec", "tmpfs", f"{root}/sys/fs/cgroup")
            return package.told("image", lambda: trial.trial(Path(root), RESULTS))
        case _:
            print(__doc__, file=sys.stderr)
            return 2


def _apart(task: str) -> int:
    began = time.monotonic()
    try:
        tree.check_machine()
        if task == "build":
            status = _package()
            if status != 0:
                return status
        else:
            trial.check_built(RESULTS)
        with tree.unpacked(tree.archive(PACKAGES, security=True)) as root:
            status = inside.apart("image", "inside", task, str(root))
    except tree.Unable as reason:
        print(f"image: {task} is skipped: {reason}")
        return 0
    print(f"image: {task}: {'done' if status == 0 else 'FAILED'} after {time.monotonic() - began:.0f} s")
    return status


def _package() -> int:
    """Build the package, unless `make deb` has done so since the sources were changed.

    :raises tree.Unable: there is none.
    """
    made = package_file(RESULTS)
    sources = (path for path in packaging.sources() if path.parts[0] not in NOT_PACKED)
    newest = max((packaging.REPOSITORY / path).stat().st_mtime for path in sources)
    if made.exists() and made.stat().st_mtime >= newest:
        return 0
    status = package.main(["build"])
    if status == 0 and not made.exists():
        raise tree.Unable(f"there is no {made}")
    return status


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.exit(main(sys.argv[1:]))
