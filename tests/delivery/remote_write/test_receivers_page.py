"""docs/receivers.md: its file is taken, its table has every key, and its reasons of losses exist."""

from __future__ import annotations

import re
from pathlib import Path

from oneshotd.delivery.remote_write import encoding, receivers_file, refusals
from oneshotd.delivery.remote_write.receivers_file import read_receivers_file

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "receivers.md").read_text(encoding="utf-8")


def test_the_file_of_the_page_is_taken(tmp_path: Path) -> None:
    (text,) = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    path = tmp_path / "receivers.toml"
    path.write_text(text)
    (found,), _ = read_receivers_file(path)
    assert found.name == "prometheus-a"


def test_the_table_has_every_key() -> None:
    table = PAGE.partition("| key | default |")[2].partition("\n\n")[0]
    rows = [row.split("|")[1] for row in table.splitlines()[2:]]
    assert {key for row in rows for key in re.findall(r"`([a-z-]+)`", row)} == set(receivers_file.KEYS)


def test_the_reasons_of_losses() -> None:
    table = PAGE.partition("| reason | meaning |")[2].partition("\n\n")[0]
    rows = [row.split("|")[1] for row in table.splitlines()[2:]]
    reasons = {reason for row in rows for reason in re.findall(r"`([a-z_ ]+)`", row)}
    own = {refusals.REFUSED, refusals.UNCERTAIN, refusals.DISCARDED}
    assert reasons == {"away", "log full", encoding.MAX_LABELS, encoding.MAX_LABEL_VALUE, *own}
