"""What becomes of a test that needs a Debian package where none can be had."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.debian_packages import fetch, fetch_with_libraries


@pytest.fixture(autouse=True)
def _no_tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


WAYS = pytest.mark.parametrize("way", [fetch, fetch_with_libraries])


@WAYS
def test_a_developer_without_apt_sees_the_test_skipped_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, way: Callable[[str], Path]
) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="there is no apt-get here"):
        way("prometheus")


@WAYS
def test_continuous_integration_without_apt_fails_and_does_not_pass_untested(
    monkeypatch: pytest.MonkeyPatch, way: Callable[[str], Path]
) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="there is no apt-get here"):
        way("prometheus")
