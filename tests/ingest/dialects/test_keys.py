"""Keys of dialects: no two senders, and no two divisions of the same text, have one."""

from __future__ import annotations

from oneshotd.core.parsing.formats import MAX_KEY_BYTES
from oneshotd.ingest.dialects.keys import event_key, state_key


def test_keys_differ_wherever_their_parts_do() -> None:
    """A sender's event would be a duplicate of another one's."""
    parts = [
        ("github", "", "a"),
        ("gitlab", "", "a"),
        ("github", "a", ""),
        ("github", "", "a", ""),
        ("github", "", "", "a"),
        ("github", "1:a", "a"),
        ("github", "", "\ud800"),
    ]
    keys = [make(*each) for each in parts for make in (event_key, state_key)]
    assert len(set(keys)) == len(keys)
    assert event_key("github", "", "a") == event_key("github", "", "a")
    assert all(len(key) <= MAX_KEY_BYTES for key in keys)
