"""An error in the access file has the line that the operator has to change."""

from __future__ import annotations

from pathlib import Path

import pytest

from oneshotd.ctl.error_lines import with_line

TEXT = """\
# [[allow]]
[[allow]]
role = "emit"
# user = "old"
  user = "ci"

  [[ allow ]]
"role" = "look"
labels.team = "shop"
[["allow"]]
"""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("allow 1: role: expected emit", ":3"),
        ("allow 1: user: expected a name", ":5"),
        ("allow 1: expected at least one of user", ":2"),
        ("allow 1: there is no key 'usr'", ":2"),
        ("allow 2: role: expected emit", ":8"),
        ("allow 2: labels: team: expected a text", ":9"),
        ("allow 2: user: not in this rule", ":7"),
        ("allow 3: role: expected emit, got none", ":10"),
        ("allow 4: role: not in this file", ""),
        ("allow 99999999999: role: not in this file", ""),
        ("allow: expected tables, [[allow]]", ""),
        ("there is no [[allow]]", ""),
        ("Expected ']]' (at line 7, column 3)", ":7"),
        ("Unclosed array (at line 12, the last)", ":12"),
        ("Permission denied", ""),
    ],
)
def test_the_line_is_that_of_the_key(text: str, line: str, tmp_path: Path) -> None:
    """The operator would count [[allow]]s, or change the line of another rule."""
    file = tmp_path / "access.toml"
    file.write_text(TEXT)
    assert with_line(f"{file}: {text}", file) == f"{file}{line}: {text}"


def test_an_error_about_something_else_stays_as_it_is(tmp_path: Path) -> None:
    """The error would name a file that it is not about, or be hidden by another one."""
    assert (
        with_line("web-config needs the package PyYAML", tmp_path / "a")
        == "web-config needs the package PyYAML"
    )
    error = f"{tmp_path / 'a'}: allow 1: role: x"
    assert with_line(error, tmp_path / "a") == error  # the file has gone meanwhile
    (tmp_path / "a").write_bytes(b"[[allow]]\nrole = '\xff'")
    assert with_line(error, tmp_path / "a") == error
