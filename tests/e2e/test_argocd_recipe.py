"""The recipe for Argo CD in docs/dialects.md: its template, rendered by Go, fits its mapping."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.daemon import REPOSITORY
from support.go import compiled

from oneshotd.core.events import details_of, labels_of
from oneshotd.core.parsing.formats import Rules
from oneshotd.ingest.dialects.translation import Context, Message
from oneshotd.ingest.hooks.hook_file import parse_hook_file

pytestmark = pytest.mark.e2e


def block(language: str) -> str:
    """Return the text of a code block of the chapter."""
    page = (REPOSITORY / "docs" / "dialects.md").read_text(encoding="utf-8")
    chapter = page.partition("\n### Argo CD\n")[2].partition("\n## ")[0].partition("\n### ")[0]
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", chapter, re.DOTALL | re.MULTILINE)
    return str(found)


def application(phase: str, **operation: object) -> dict[str, Any]:
    """An Application of Argo CD, as far as notifications look at it."""
    return {
        "metadata": {"name": "shop", "namespace": "argocd"},
        "spec": {"project": "default", "source": {"repoURL": "https://git.test/shop"}},
        "status": {
            "sync": {"status": "Synced", "revision": "731f7ea"},
            "health": {"status": "Healthy"},
            "operationState": {
                "phase": phase,
                "message": 'one "quoted" line\nand <another> with ü',
                "startedAt": "2026-11-28T10:00:00Z",
                "finishedAt": "2026-11-28T10:00:42Z",
                **operation,
            },
        },
    }


def rendered(folder: Path, app: dict[str, Any]) -> bytes:
    """Return the body that Argo CD sends."""
    template = yaml.safe_load(yaml.safe_load(block("yaml"))["template.oneshotd"])
    (folder / "body.tmpl").write_text(template["webhook"]["oneshotd"]["body"])
    (folder / "app.json").write_text(json.dumps(app))
    program = compiled(Path(__file__).with_name("render_template.go"))
    command = (str(program), str(folder / "body.tmpl"), str(folder / "app.json"))
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.mark.parametrize("phase", ["Succeeded", "Failed", "Error"])
def test_a_sync_becomes_one_event(tmp_path: Path, phase: str) -> None:
    """Who copies the recipe would get refusals, or events without a duration."""
    body = rendered(tmp_path, application(phase))
    file = parse_hook_file(block("toml").encode(), "argocd")
    assert file.verification is not None
    found = file.recipe.translate(
        Message(body=body, raw=body), Context(rules=Rules(), hold=86400.0, now=1_795_860_000.0)
    )
    assert found.group is not None
    (event,) = found.group.events
    assert labels_of(event.series) == {
        "type": "deployment",
        "app": "shop",
        "project": "default",
        "result": phase,
    }
    assert (event.value, event.key is not None) == ("42", True)
    assert details_of(event.detail) == {
        "time": "2026-11-28T10:00:00Z",
        "end": "2026-11-28T10:00:42Z",
        "revision": "731f7ea",
        "text": 'one "quoted" line\nand <another> with ü',
        "url": "https://argocd.test/applications/shop",
    }


def test_the_mapping_names_the_header_that_the_service_sends() -> None:
    """Each notification would be answered with 401."""
    service = yaml.safe_load(yaml.safe_load(block("yaml"))["service.webhook.oneshotd"])
    verification = parse_hook_file(block("toml").encode(), "argocd").verification
    assert verification is not None
    assert [header["name"].lower() for header in service["headers"]] == [verification.header]
