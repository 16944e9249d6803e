"""`oneshotctl check-config` reads the hooks, too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from support.hook_messages import CI

#: The fixture of conftest.py: returns status, standard output and standard error.
Check = Callable[..., tuple[int, list[str], list[str]]]

CONFIG = 'hooks = "DIR/hooks"\n'


def test_good_hooks_are_listed_with_what_verifies_their_senders(check: Check, tmp_path: Path) -> None:
    (tmp_path / "hooks").mkdir()
    (tmp_path / "hooks" / "secret").write_bytes(b"a secret of 23 bytes !!")
    (tmp_path / "hooks" / "secret").chmod(0o640)
    verify = '[verify]\nby = "token"\nheader = "X-Token"\nsecret_files = "secret"\n'
    files = {"d.toml": CONFIG, "hooks/ci.toml": CI, "hooks/cd.toml": CI + verify}
    status, lines, errors = check(files)
    assert (status, errors) == (0, [])
    assert "POST /hook/cd: token in the header x-token" in lines
    assert "POST /hook/ci: the access rules decide who may send" in lines


def test_each_bad_hook_is_an_error(check: Check, tmp_path: Path) -> None:
    """After a restart its senders would get 503."""
    (tmp_path / "hooks").mkdir()
    files = {"d.toml": CONFIG, "hooks/a.toml": "x = 1", "hooks/b.toml": "a = ", "hooks/ci.toml": CI}
    status, _, errors = check(files)
    assert status == 1
    assert errors[0].startswith("DIR/hooks/a.toml: there is no key 'x'")
    assert errors[1].startswith("DIR/hooks/b.toml:1: Invalid value")
    assert len(errors) == 2


def test_a_missing_folder_is_an_error(check: Check) -> None:
    """The daemon would not start."""
    assert check({"d.toml": CONFIG})[::2] == (1, ["DIR/hooks: No such file or directory"])
