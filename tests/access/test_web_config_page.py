"""docs/web-configuration.md says what the daemon does."""

from __future__ import annotations

import re
from pathlib import Path

from support.web_configs import read_text

from oneshotd.access.tls_names import CLIENT_AUTH, ClientAuth
from oneshotd.access.tls_settings import KEYS
from oneshotd.access.web_config import HEADERS, SECTIONS

PAGE = (Path(__file__).resolve().parents[2] / "docs/web-configuration.md").read_text(encoding="utf-8")


def example() -> str:
    found = re.search(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert found
    return found[1]


def test_the_example_is_read_without_a_note(tmp_path: Path) -> None:
    """An operator who copies it would get an error, or a part without effect."""
    config = read_text(tmp_path, example())
    assert config.notes == ()
    assert config.tls is not None and config.users and config.rate_limit is not None
    assert set(config.headers) == set(HEADERS)


def test_every_key_and_every_policy_is_on_the_page() -> None:
    """An operator would not find a key that there is."""
    assert [
        name for name in (*SECTIONS, *KEYS, *HEADERS) if not re.search(rf"\b{re.escape(name)}\b", PAGE)
    ] == []
    assert [name for name in CLIENT_AUTH if f"`{name}`" not in PAGE and name] == []


def test_the_table_of_policies_is_true() -> None:
    """An operator would choose a policy that lets in whom it should not."""
    rows = re.findall(r"^\| `(\w+)`[^|]*\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", PAGE, re.MULTILINE)
    said = {name: (without, other, names) for name, without, other, names in rows if name in CLIENT_AUTH}
    assert set(said) == {policy.value for policy in ClientAuth}
    for policy in ClientAuth:
        without, other, names = said[policy.value]
        assert (without == "is refused") is policy.requires
        assert (other == "is refused") is policy.verifies
        assert (names == "count") is policy.verifies
