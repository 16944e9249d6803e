"""docs/recipes.md: a real ansible-playbook on this machine, with the task and with the plug-in."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes import until
from support.recipe_machine import PATIENCE, Machine, machine
from support.recipes_page import block, promises

pytestmark = pytest.mark.e2e

#: A playbook with a task that changes something.
SITE = """\
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.command: "true"
"""


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Machine]:
    with machine(tmp_path) as made:
        yield made


def play(here: Machine, playbook: str, inventory: str) -> str:
    """Run a playbook without anybody's settings; return what Ansible prints."""
    folder = here.folder / "play"
    (folder / "ansible.cfg").touch()
    own = {
        "HOME": str(here.folder),
        "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
        "ANSIBLE_HOME": str(here.folder / "ansible"),
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        "LC_ALL": "C.UTF-8",
    }
    command = (sys.executable, "-m", "ansible", "playbook", "-i", inventory, "-c", "local", playbook)
    done = subprocess.run(
        command,
        cwd=folder,
        env={**here.variables, **own},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def test_the_task_of_a_deploy(here: Machine) -> None:
    """Several hosts, and a playbook that is run again: one event."""
    here.install(here.folder / "play" / "deploy.yml", block("Ansible", "yaml"))
    (here.folder / "play" / "hosts").write_text("[web]\nweb-1\nweb-2\n")
    for _ in range(2):
        play(here, "deploy.yml", "hosts")
    assert here.samples() == promises("Ansible")[:1]
    assert here.duplicates() == 1
    text = here.adapted(block("Ansible", "yaml")).replace("delay: 2", "delay: 0")
    (here.folder / "play" / "deploy.yml").write_text(text)
    here.daemon.stop()
    assert "ignored=1" in play(here, "deploy.yml", "hosts")
    here.daemon.start()


def test_the_plugin_reports_each_host(here: Machine) -> None:
    folder = here.folder / "play"
    here.install(folder / "callback_plugins" / "oneshotd.py", block("Ansible", "python"))
    (folder / "site.yml").write_text(SITE)
    play(here, "site.yml", "localhost,web-1,")
    events = here.await_events(2, type="playbook")
    assert [event["labels"]["host"] for event in events] == ["localhost", "web-1"]
    assert [event["detail"] for event in events] == [{"changed": "1"}] * 2
    promised = re.sub(r" [0-9.]+$", " ", promises("Ansible")[1])
    assert sum(sample.startswith(promised) for sample in here.samples()) == 1
    here.daemon.stop()
    assert "oneshotd: not reported" in play(here, "site.yml", "localhost,")
    here.daemon.start()
    until(lambda: len(here.events(type="playbook")) == 2, PATIENCE, "the events of the first run")
