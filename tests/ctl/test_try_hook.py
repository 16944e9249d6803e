"""`oneshotctl try-hook`: what a message would become, without a daemon and without a trace."""

from __future__ import annotations

import hmac
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.hook_messages import CI, build

from oneshotd.ctl import daemon_sources
from oneshotd.ctl.command import run
from oneshotd.ingest.dialects.keys import event_key

BODY = json.dumps(
    {"ref": "main", "builds": [build(1), build(2, "running"), build(3, "failed", None)]}
).encode()

SECRET = b"a secret of 23 bytes !!"
VERIFY = '\n[verify]\nby = "hmac-sha256"\nheader = "X-Sig"\nsecret_files = "secret"\n'

#: Runs the command in a folder with these files; returns status, lines of output, and errors.
Try = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Try:
    monkeypatch.setattr(daemon_sources, "CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.chdir(tmp_path)

    def ran(hook: str, body: bytes, *words: str) -> tuple[int, list[str], list[str]]:
        (tmp_path / "ci.toml").write_text(hook)
        (tmp_path / "payload.json").write_bytes(body)
        files: Sequence[str] = () if words[:1] == ("-",) else ("ci.toml", "payload.json")
        status = run(["try-hook", *files, *words[len(files) == 0 :]], {})
        out, err = capsys.readouterr()
        return status, out.splitlines(), err.splitlines()

    return ran


def test_the_events_and_what_is_left_out(attempt: Try) -> None:
    """The operator would find out with real events, in a counter that cannot be corrected."""
    assert attempt(CI, BODY) == (
        0,
        [
            'event 1, from /builds/0: events_to_metrics{branch="main",result="finished",type="build"} 12.5',
            f"    key from 1-finished: {event_key('ci', '', '', '1', '-', 'finished', '')}",
            'event 2, from /builds/2: events_to_metrics{branch="main",result="failed",type="build"} 1',
            f"    key from 3-failed: {event_key('ci', '', '', '3', '-', 'failed', '')}",
            "    found nothing for: value",
            "left out /builds/1: when: '/state' is 'running'",
            "2 events, 1 left out",
        ],
        [],
    )


def test_json_has_the_same(attempt: Try) -> None:
    status, lines, _ = attempt(CI + '[detail]\nurl = "^/ref"', BODY, "--json")
    found = json.loads("\n".join(lines))
    assert (status, found["status"], found["refused"], found["verification"]) == (0, 200, None, None)
    first, second = found["events"]
    assert first == {
        "path": "/builds/0",
        "series": 'events_to_metrics{branch="main",result="finished",type="build"}',
        "value": "12.5",
        "key": event_key("ci", "", "", "1", "-", "finished", ""),
        "key_text": "1-finished",
        "detail": {"url": "main"},
        "absent": [],
        "state": "",
    }
    assert second["absent"] == ["value"]
    assert found["ignored"] == [{"path": "/builds/1", "why": "when: '/state' is 'running'"}]


def test_a_refusal_is_status_1(attempt: Try) -> None:
    status, lines, _ = attempt(CI, b'{"builds": 1}')
    assert status == 1
    assert lines == ["refused with 400: each: '/builds': expected an array or object, got '1'"]
    status, lines, _ = attempt(CI, b"{", "--json")
    assert status == 1
    assert json.loads("\n".join(lines))["status"] == 400


def test_standard_input(attempt: Try, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(BODY)))
    status, lines, _ = attempt(CI, b"", "-", "ci.toml", "-")
    assert (status, lines[-1]) == (0, "2 events, 1 left out")


def test_headers_are_sources(attempt: Try) -> None:
    hook = 'labels = { kind = "header:X-Kind" }'
    assert (
        attempt(hook, b"{}", "--header", "X-Kind: push")[1][0] == 'event 1: events_to_metrics{kind="push"} 1'
    )
    assert attempt(hook, b"{}", "--header", "X-Kind")[0] == 2


def test_the_signature_is_checked_where_its_header_is_given(attempt: Try, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "secret").chmod(0o600)
    fits = f"X-Sig: {hmac.new(SECRET, BODY, 'sha256').hexdigest()}"
    for words, status, said in (
        ((), 0, "verification: not checked, as the header x-sig is not given (--header)"),
        (("--header", fits), 0, "verification: the header x-sig fits"),
        (
            ("--header", "X-Sig: " + "0" * 64),
            1,
            "verification: refused with 401: header x-sig: the signature",
        ),
    ):
        found, lines, _ = attempt(CI + VERIFY, BODY, *words)
        assert found == status
        assert lines[0].startswith(said)
        assert SECRET.decode() not in "".join(lines)
    (tmp_path / "secret").chmod(0o644)
    assert "others may not read" in attempt(CI + VERIFY, BODY, "--header", fits)[2][0]


@pytest.mark.parametrize(
    ("hook", "error"),
    [
        ("labels = 1", "oneshotctl try-hook: ci.toml: labels: expected a table such as"),
        ("a = 1\nb = ", "oneshotctl try-hook: ci.toml:2: Invalid value"),
        ("[verify]\nby = 1\n[labels]\nx = '/x'", "oneshotctl try-hook: ci.toml: verify: by: expected"),
        ("preset = 'nothing'", "oneshotctl try-hook: ci.toml: preset: expected one of"),
    ],
)
def test_mistakes_of_the_file_are_named(attempt: Try, hook: str, error: str) -> None:
    status, lines, errors = attempt(hook, BODY)
    assert (status, lines) == (1, [])
    assert len(errors) == 1 and errors[0].startswith(error)


def test_files_that_cannot_be_read(attempt: Try, tmp_path: Path) -> None:
    (tmp_path / "d.toml").write_text('max-hook-body = "1K"')
    for words, error in (
        (("-", "nowhere.toml", "payload.json"), "nowhere.toml: No such file or directory"),
        (("-", "ci.toml", "nowhere.json"), "nowhere.json: No such file or directory"),
        (("-", "preset:nothing", "payload.json"), "preset: expected one of"),
    ):
        status, _, errors = attempt(CI, BODY, *words)
        assert status == 1
        assert errors[0].startswith(f"oneshotctl try-hook: {error}")
    status, _, errors = attempt(CI, BODY * 20, "--config", str(tmp_path / "d.toml"))
    assert (status, errors) == (
        1,
        ["oneshotctl try-hook: payload.json: expected at most 1024 bytes (max-hook-body), got more"],
    )


def test_the_limits_of_the_daemon_hold(attempt: Try, tmp_path: Path) -> None:
    """The trial would show an event that the daemon refuses."""
    (tmp_path / "d.toml").write_text('max-label-value = 7\nmetric = "m"')
    status, lines, _ = attempt(CI, BODY, "--config", str(tmp_path / "d.toml"))
    assert status == 1
    assert "longer than 7 bytes" in lines[0]
