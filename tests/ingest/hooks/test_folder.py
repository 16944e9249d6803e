"""The folder of hooks: what is new is in force after a moment, and a bad file changes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.fake_store import logged
from support.hook_messages import CI, CONTEXT, build, message
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import formatEvent

from oneshotd.access.reload import LOOK_SECONDS
from oneshotd.errors import ConfigError, Refused
from oneshotd.ingest.dialects import recipe, registry
from oneshotd.ingest.dialects.translation import Context, Message, Translation
from oneshotd.ingest.hooks.folder import MAX_FILES, HookFolder, read_folder
from oneshotd.ingest.hooks.hooks import Hook, Hooks

T = 'labels.type = "=%s"'


def in_thread(call: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
    return maybeDeferred(call, *arguments)


class Rig:
    """A folder with one hook, ``ci``, and time that passes when it is told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = Clock()
        self.hooks = Hooks()
        self.write("ci", CI)
        self.folder = HookFolder(
            path, self.hooks, clock=self.clock, in_thread=in_thread, now=lambda: 1000.0 + self.clock.seconds()
        )

    def begin(self) -> None:
        self.folder.read()
        self.folder.start()

    def write(self, name: str, text: str) -> None:
        """Replace a file; its signature differs, however fast the test runs."""
        path = self.path / f"{name}.toml"
        path.write_text(text)
        self._ticks = getattr(self, "_ticks", 0) + 1
        os.utime(path, ns=(0, self._ticks))
        os.utime(self.path, ns=(0, self._ticks))

    def remove(self, name: str) -> None:
        (self.path / f"{name}.toml").unlink()
        self._ticks += 1
        os.utime(self.path, ns=(0, self._ticks))

    def look(self) -> None:
        """Let it look as often as it needs."""
        for _ in range(3):
            self.clock.advance(LOOK_SECONDS)

    def sent(self, name: str, body: object) -> list[str]:
        """The series of a message."""
        found: list[Any] = []
        Deferred.fromCoroutine(self.hooks.translate(name, message(body), CONTEXT)).addBoth(found.append)
        (result,) = found
        if not isinstance(result, Translation):
            result.raiseException()
        return [] if result.group is None else [event.series for event in result.group.events]

    def refusal(self, name: str) -> tuple[int, str]:
        with pytest.raises(Refused) as refused:
            self.sent(name, {})
        return refused.value.status, refused.value.reason


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.folder.stop()


def test_the_hooks_of_the_start(rig: Rig) -> None:
    rig.begin()
    assert "ci" in rig.hooks.names
    assert len(rig.sent("ci", {"ref": "main", "builds": [build(1), build(2)]})) == 2
    assert rig.refusal("nothing") == (404, "name")
    assert rig.folder.warnings() == []
    assert (rig.folder.state.successful, rig.folder.state.succeeded_at) == (True, 1000.0)


def test_a_changed_and_a_new_and_a_removed_file(rig: Rig) -> None:
    """An operator would restart the daemon for each change."""
    rig.begin()
    with logged() as lines:
        rig.write("ci", T % "changed")
        rig.write("cd", T % "new")
        rig.look()
    assert rig.sent("ci", {}) == ['events_to_metrics{type="changed"}']
    assert rig.sent("cd", {}) == ['events_to_metrics{type="new"}']
    assert any("new: cd; changed: ci" in line for line in map(formatEvent, lines))
    rig.remove("ci")
    rig.look()
    assert rig.refusal("ci") == (404, "name")
    assert rig.sent("cd", {})
    assert rig.folder.warnings() == []


def test_a_bad_file_leaves_the_one_before_in_force(rig: Rig) -> None:
    """A slip in the editor would lose events."""
    rig.begin()
    with logged() as lines:
        rig.write("ci", "lables = 1")
        rig.look()
        rig.look()
    (line,) = [line for line in map(formatEvent, lines) if "hooks: a file is not used" in line]
    assert f"{rig.path}/ci.toml: there is no key 'lables'; the nearest is 'labels'" in line
    assert "the one before stays in force" in line
    assert rig.sent("ci", {"builds": [build(1)]})
    assert rig.folder.warnings() == ["a file of --hooks is not used; the log has the reason"]
    assert not rig.folder.state.successful
    rig.write("ci", T % "good")
    rig.look()
    assert rig.sent("ci", {}) == ['events_to_metrics{type="good"}']
    assert rig.folder.warnings() == []
    assert rig.folder.state.successful


def test_a_bad_new_file_refuses_with_503(rig: Rig) -> None:
    """With 404 the sender would drop the events, or with the preset of its name take unsigned ones."""
    rig.begin()
    with logged() as lines:
        rig.write("cd", "labels = 1")
        rig.look()
    assert any("its hook answers with 503" in line for line in map(formatEvent, lines))
    assert rig.refusal("cd") == (503, "hook")
    assert "cd" in rig.hooks.names
    rig.remove("cd")
    rig.look()
    assert rig.refusal("cd") == (404, "name")


def test_a_bad_file_at_the_start_keeps_no_other_hook_away(rig: Rig) -> None:
    rig.write("cd", "labels = 1")
    rig.begin()
    assert rig.refusal("cd") == (503, "hook")
    assert rig.sent("ci", {"builds": [build(1)]})


def preset(message: Message, context: Context) -> Translation:
    return Translation(ignored=7)


def test_a_bad_file_does_not_uncover_the_preset_of_its_name(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The preset verifies nothing: a slip in the file would let everybody in."""
    for module in (registry, recipe):
        monkeypatch.setattr(module, "PRESETS", {"github": preset})
    rig.hooks._hooks = {"github": Hook(name="github", translate=preset)}
    assert rig.sent("github", {}) == []
    rig.write("github", 'preset = "github"\n[verify]\nsecret_files = "nowhere"')
    with logged() as lines:
        rig.begin()
    assert any("verify: secret_files:" in line and "No such file" in line for line in map(formatEvent, lines))
    assert rig.refusal("github") == (503, "hook")
    (rig.path / "nowhere").write_bytes(b"a secret of 23 bytes !!")
    (rig.path / "nowhere").chmod(0o600)
    rig.look()
    assert rig.refusal("github") == (401, "unauthorized")


def test_a_rotated_secret_is_read_again(rig: Rig) -> None:
    secret = rig.path / "token"
    secret.write_bytes(b"the first token of the hook")
    secret.chmod(0o600)
    rig.write("ci", T % "x" + '\n[verify]\nby = "token"\nheader = "X-Token"\nsecret_files = "token"')
    rig.begin()
    sent = message({}, {"x-token": "the second token of the hook"})
    found: list[Any] = []
    for word in ("first", "second"):
        secret.write_bytes(f"the {word} token of the hook".encode())
        os.utime(secret, ns=(0, len(found)))
        rig.look()
        Deferred.fromCoroutine(rig.hooks.translate("ci", sent, CONTEXT)).addBoth(found.append)
    assert isinstance(found[0].value, Refused)
    assert isinstance(found[1], Translation)


@pytest.mark.parametrize("name", ["CI", "c i", "c_i", "x" * 65, "c.i"])
def test_names_that_cannot_be_in_the_path_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.toml").write_text(T % "x")
    found, _ = read_folder(tmp_path)
    ((path, why),) = found.bad.items()
    assert why == f"{path}: expected a name of 1 to 64 characters of a-z 0-9 and -, with .toml"


def test_other_files_are_no_hooks(tmp_path: Path) -> None:
    """A backup of an editor would be a hook, or an error."""
    for name in ("ci.toml~", ".ci.toml", "ci.toml.dpkg-new", "README", "secret"):
        (tmp_path / name).write_text("x")
    found, watched = read_folder(tmp_path)
    assert (found.good, found.bad, list(watched)) == ({}, {}, [tmp_path])


def test_what_is_no_file_is_an_error(tmp_path: Path) -> None:
    """A pipe would hold up the daemon for ever."""
    os.mkfifo(tmp_path / "a.toml")
    (tmp_path / "b.toml").mkdir()
    (tmp_path / "c.toml").write_text("#" * (64 * 1024 + 1))
    (tmp_path / "d.toml").symlink_to("nowhere")
    found, _ = read_folder(tmp_path)
    assert {path.name: why.partition(": ")[2] for path, why in found.bad.items()} == {
        "a.toml": "expected a file, got not a regular file",
        "b.toml": "expected a file, got a folder",
        "c.toml": "expected at most 64 KiB, got more",
        "d.toml": "No such file or directory",
    }


def test_a_folder_that_cannot_be_read_ends_the_start(tmp_path: Path) -> None:
    """The daemon would run without the hooks, and answer 404."""
    with pytest.raises(ConfigError, match="nowhere: No such file or directory"):
        read_folder(tmp_path / "nowhere")
    for number in range(MAX_FILES + 1):
        (tmp_path / f"h{number}.toml").touch()
    with pytest.raises(ConfigError, match=f"expected at most {MAX_FILES} files, got {MAX_FILES + 1}"):
        read_folder(tmp_path)
