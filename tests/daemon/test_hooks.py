"""The hooks of the daemon's options."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.hook_messages import CI, CONTEXT, message
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from oneshotd.core.parsing.formats import Rules
from oneshotd.daemon.config_sources import configure
from oneshotd.daemon.hooks import HookParts
from oneshotd.errors import ConfigError
from oneshotd.ingest.dialects.registry import PRESETS
from oneshotd.metrics.registry import Telemetry

FLAG = "oneshotd_hooks_last_reload_successful"


def parts(telemetry: Telemetry, **options: str) -> HookParts:
    made = HookParts(Clock(), configure(options, {}), telemetry)
    made.read(Rules(max_value=8))
    made.start()
    return made


def flags(telemetry: Telemetry) -> list[float]:
    return [
        sample.value
        for family in telemetry.reloads.collect()
        for sample in family.samples
        if sample.name == FLAG
    ]


def test_without_the_option_there_are_the_presets() -> None:
    """An alert about a folder would be about one that nobody has."""
    telemetry = Telemetry()
    made = parts(telemetry)
    assert list(made.hooks.names) == sorted(PRESETS)
    assert (made.warnings(), flags(telemetry)) == ([], [])
    made.reload()
    made.stop()


def test_the_folder_s_hooks_keep_the_limits_of_the_daemon(tmp_path: Path) -> None:
    """A hook would be in force whose every event is refused."""
    (tmp_path / "ci.toml").write_text(CI)
    (tmp_path / "cd.toml").write_text('labels.type = "=deployment"')
    telemetry = Telemetry()
    made = parts(telemetry, hooks=str(tmp_path))
    assert {"ci", "cd"} <= {*made.hooks.names}
    assert flags(telemetry) == [0]
    assert made.warnings() == ["a file of --hooks is not used; the log has the reason"]
    found: list[Any] = []
    Deferred.fromCoroutine(made.hooks.translate("cd", message({}), CONTEXT)).addErrback(found.append)
    assert found[0].value.status == 503
    made.stop()


def test_a_missing_folder_ends_the_start(tmp_path: Path) -> None:
    """The daemon would answer 404 to all senders."""
    with pytest.raises(ConfigError, match="nowhere: No such file or directory"):
        parts(Telemetry(), hooks=str(tmp_path / "nowhere"))


def test_a_daemon_without_the_options_imports_no_reader_of_files() -> None:
    """Each daemon would start later for what few use."""
    code = "import sys, oneshotd.daemon.tap, oneshotd.daemon.service; print(*sys.modules, sep='\\n')"
    found = subprocess.run(
        (sys.executable, "-c", code), capture_output=True, text=True, check=True, timeout=60
    )
    hooks = "oneshotd.ingest.hooks"
    readers = {f"{hooks}.{name}" for name in ("folder", "hook_file", "checks_file", "verification")}
    assert readers.isdisjoint(found.stdout.split())
