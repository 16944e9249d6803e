"""A coverage-guided campaign over all targets, with atheris (libFuzzer): `make fuzz`.

    python tests/fuzz/campaign.py --seconds 600            all targets, that long in all
    python tests/fuzz/campaign.py --target line --seconds 60
    python tests/fuzz/campaign.py --target line FILE...    what is in these files, once more

What it learns is kept in `.cache/fuzz/`, so that the next campaign goes on from there. A fault
is kept in a file, which the last line of the output names, and ends the campaign with status 1.
"""

from __future__ import annotations

import argparse
import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
KEPT = REPOSITORY / ".cache" / "fuzz"

#: Longest input, bytes; seconds that one may take; memory, MB. Beyond the last two it is a fault.
MAX_LENGTH, TIMEOUT, MEMORY = 16384, 20, 1500

#: What coverage is measured of.
INSTRUMENTED = ["oneshotd", "twisted.web.http", "twisted.web.server", "json.decoder", "urllib.parse"]

_RUNS = re.compile(r"^stat::number_of_executed_units: (\d+)$", re.MULTILINE)
_NEW = re.compile(r"^stat::new_units_added: +(\d+)$", re.MULTILINE)


def main() -> int:
    """:returns: the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--target")
    parser.add_argument("files", nargs="*", type=Path)
    asked = parser.parse_args()
    if asked.target is None:
        return run_all(asked.seconds)
    if asked.files:
        return replay(asked.target, asked.files)
    return fuzz(asked.target, asked.seconds)


def run_all(seconds: int) -> int:
    """Every target in a process of its own, as libFuzzer ends the one it runs in."""
    names = list(targets())
    each = max(1, seconds // len(names))
    print(f"{'target':<10}{'inputs':>10}{'new':>8}  result   ({each} s each)", flush=True)
    faults = 0
    for name in names:
        command = [sys.executable, __file__, "--target", name, "--seconds", str(each)]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, errors="replace")
        runs, new = _figure(_RUNS, done.stderr), _figure(_NEW, done.stderr)
        good = done.returncode == 0 and runs > 0
        print(f"{name:<10}{runs:>10}{new:>8}  {'ok' if good else 'FAULT'}", flush=True)
        if not good:
            faults += 1
            print(done.stdout[-5000:] + done.stderr[-5000:], flush=True)
    return 1 if faults else 0


def _figure(pattern: re.Pattern[str], text: str) -> int:
    found = pattern.search(text)
    return int(found[1]) if found else 0


def fuzz(name: str, seconds: int) -> int:
    """Fuzz one target; libFuzzer ends this process."""
    # Imported by name, as only `make fuzz` installs it.
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=INSTRUMENTED):
        target = targets()[name]
    corpus, words = KEPT / name, KEPT / f"{name}.dict"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in dict.fromkeys(target.words) if word))
    options = [
        f"-max_total_time={seconds}",
        f"-dict={words}",
        f"-max_len={MAX_LENGTH}",
        f"-timeout={TIMEOUT}",
        f"-rss_limit_mb={MEMORY}",
        f"-artifact_prefix={KEPT / name}.fault-",
        "-print_final_stats=1",
        "-verbosity=0",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], target.run)
    atheris.Fuzz()
    return 0


def replay(name: str, files: list[Path]) -> int:
    """Give a target what is in files; a fault is raised."""
    for file in files:
        targets()[name].run(file.read_bytes())
        print(f"{file}: ok")
    return 0


def targets() -> dict[str, Any]:
    """Imported late: what was imported before cannot be instrumented."""
    sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]
    found: dict[str, Any] = importlib.import_module("fuzz.targets").TARGETS
    return found


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    sys.exit(main())
