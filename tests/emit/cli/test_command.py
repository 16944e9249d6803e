"""The command line: what it takes, what it says, and with which status it ends."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.emit_server import Server, answer

from oneshotd import __version__
from oneshotd.emit import settings as emit_settings
from oneshotd.emit.cli.command import run
from oneshotd.emit.cli.help import HELP


@pytest.fixture(autouse=True)
def _no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emit_settings, "FILE", str(tmp_path / "emit.toml"))


@pytest.mark.parametrize(
    ("words", "body"),
    [
        ("type=deploy version=1.2", b"type=deploy&version=1.2"),
        ("type=deploy version=1.2 --value 3", b"type=deploy&version=1.2&value=3"),
        ("--value=-3 type=deploy", b"type=deploy&value=-3"),
        ("type=deploy --value -Inf version=1.2", b"type=deploy&version=1.2&value=-Inf"),
        ("type=deploy value=3", b"type=deploy&value=3"),
        ("type=deploy --id k", b"type=deploy&__id__=k"),
        ("__name__=deploys note=a=b", b"__name__=deploys&note=a%3Db"),
        ("--value 3", b"value=3"),
        ("--http {url} --timeout 3s --retry 1m type=x", b"type=x"),
    ],
)
def test_words_become_an_event(words: str, body: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """The event would say something else than the command."""
    with Server() as server:
        assert run(words.format(url=server.url).split(), {"ONESHOTD_URL": server.url}) == 0
    assert server.bodies() == [body]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("", "expected labels such as type=deploy, or - to read lines"),
        ("--retry 5m", "expected labels such as type=deploy"),
        ("deploy", "expected NAME=VALUE, got 'deploy'"),
        ("=x", "a label's name is empty"),
        ("a=1 a=2", "a is given twice"),
        ("--value 1 value=1", "value is given twice"),
        ("--value many a=1", "value: 'many' is not a number"),
        ("--id k", "expected labels such as type=deploy"),
        ("--value 1 --value 2", "--value is given twice"),
        ("--value", "option --value requires argument"),
        ("--loud a=1", "option --loud not recognized"),
        ("-x a=1", "option -x not recognized"),
        ("--http http://h:1 --udp h:1 a=1", "--http and --udp: expected one of them"),
        ("--udp h:1 --retry 1m a=1", "--retry needs HTTP: a datagram has no answer"),
        ("--udp h:1 --token-file x a=1", "--token-file needs HTTP: UDP knows the sender's address only"),
        ("--udp h:1 --cert x a=1", "--cert needs HTTP"),
        ("--http https://h:1 --key x a=1", "--key: expected --cert as well, the key's certificate"),
        ("--http http://h:1 --ca-file x a=1", "ca-file: http://h:1 is not encrypted; expected https://"),
        ("--http localhost:8090 a=1", "--http: expected http://HOST:PORT"),
        ("--http http://h --http localhost:8090 a=1", "--http: expected http://HOST:PORT"),
        ("--http http://h --http http://h:80 a=1", "--http: http://h:80 is given twice"),
        ("--http http://h --http udp://g a=1", "--http: udp://g:8090 never answers, so no other"),
        ("--http http://h --http http://g --udp h:1 a=1", "--http and --udp: expected one of them"),
        ("--udp h:x a=1", "--udp: expected http://HOST:PORT"),
        ("--retry 5 a=1", "--retry: expected a duration such as 500ms, 90s, 5m, 1h or 1d, got '5'"),
        ("--timeout 0s a=1", "--timeout: expected a duration"),
        ("a=1 -- true", "-- COMMAND goes with --exec"),
        ("--value 1 -", "--value is for one event"),
        ("--id k -", "--id is for one event"),
        ("__id__=k -", "__id__ is for one event"),
    ],
)
def test_a_slip_is_one_line_and_status_2(words: str, why: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A typing error would send something, or be told by a traceback."""
    assert run(words.split(), {}) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(f"oneshot-emit: {why}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("--exec a=1", "--exec: expected the command after --"),
        ("--exec a=1 --", "--exec: expected the command after --"),
        ("--exec a=1 - -- true", "--exec leaves standard input to the command"),
        ("--exec status=x -- true", "--exec sets value, status and exit_code itself, got status"),
        ("--exec --value 3 -- true", "--exec sets value, status and exit_code itself, got value"),
        ("--exec a=1 a=2 -- true", "a is given twice"),
        ("--exec --retry x a=1 -- true", "--retry: expected a duration"),
    ],
)
def test_a_slip_around_a_command_cannot_be_taken_for_the_commands_status(
    words: str, why: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """A backup that never ran would look as if it had failed by itself."""
    assert run(words.split(), {}) == 125
    assert capfd.readouterr().err.startswith(f"oneshot-emit: {why}")


@pytest.mark.parametrize(
    ("reply", "status", "why"),
    [
        (answer(400, b"label '__x': reserved\n"), 1, "refused (400): label '__x': reserved"),
        (answer(401, b"who is it?\n"), 77, "refused (401): who is it?; sent without a credential, see the"),
        (answer(403, b"192.0.2.7 may not send events\n"), 77, "refused (403): 192.0.2.7 may not"),
        (answer(200, b"<html>"), 1, "this is not oneshotd, its answer: <html>"),
        (answer(503, b"busy\n"), 75, "not now (503): busy"),
        (b"", 75, "the connection was closed before the end of the answer"),
    ],
)
def test_the_status_says_whether_later_may_help(
    reply: bytes, status: int, why: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """A script could not tell a wrong event from a daemon that is away."""
    with Server(reply) as server:
        assert run(["a=1"], {"ONESHOTD_URL": server.url}) == status
    err = capfd.readouterr().err
    assert err.startswith(f"oneshot-emit: {server.url}: {why}")
    assert err.count("\n") == 1


def test_a_daemon_that_is_away_is_status_75(capfd: pytest.CaptureFixture[str]) -> None:
    """A script could not try again later."""
    with Server() as server:
        pass
    assert run(["a=1", "--http", server.url], {}) == 75
    assert capfd.readouterr().err == f"oneshot-emit: {server.url}: Connection refused\n"


@pytest.mark.parametrize(
    ("environ", "words", "why"),
    [
        ({"ONESHOTD_URL": "localhost"}, "a=1", "$ONESHOTD_URL: expected http://HOST:PORT"),
        ({}, "a=1 --config /nowhere.toml", "/nowhere.toml: No such file or directory"),
        ({"ONESHOTD_URL": "udp://h:1"}, "a=1 --retry 1m", "retry: udp://h:1 never answers"),
    ],
)
def test_wrong_settings_are_told_with_their_source(
    environ: dict[str, str], words: str, why: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """The error would be looked for on the command line."""
    assert run(words.split(), environ) == 2
    assert capfd.readouterr().err.startswith(f"oneshot-emit: {why}")


@pytest.mark.parametrize("words", ["--help", "-h", "--help a=1", "--exec --help"])
def test_help_is_printed_whatever_else_is_there(words: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A user would get an error instead of the help."""
    assert run(words.split(), {}) == 0
    assert capfd.readouterr() == (HELP, "")


def test_help_names_every_option_and_fits_a_terminal() -> None:
    """An option would be known to nobody, or the text be broken in 100 columns."""
    from oneshotd.emit.cli.command import _SWITCHES, _WITH_VALUE

    assert set(re.findall(r"--([a-z-]+)", HELP)) >= {*_WITH_VALUE, *_SWITCHES}
    assert max(map(len, HELP.splitlines())) <= 100


def test_the_version_is_the_packages(capfd: pytest.CaptureFixture[str]) -> None:
    """A report of a fault would name another version."""
    assert run(["--version"], {}) == 0
    assert capfd.readouterr().out == f"oneshot-emit {__version__}\n"


BUSY = answer(503, b"busy\n")


@pytest.mark.parametrize("source", ["options", "environment", "file"])
def test_several_addresses(source: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The event would be lost with the first daemon."""
    with Server(BUSY) as one, Server() as other:
        urls = [one.url, other.url]
        (tmp_path / "emit.toml").write_text(f"url = {urls}\n" if source == "file" else "")
        environ = {"ONESHOTD_URL": " ".join(urls)} if source == "environment" else {}
        words = ["--http", one.url, "--http", other.url] if source == "options" else []
        assert run(["type=x", *words], environ) == 0
    assert one.bodies() == other.bodies() == [b"type=x"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("answers", "status", "said"),
    [
        ((BUSY, BUSY), 75, "{one}: not now (503): busy; {other}: not now (503): busy"),
        ((BUSY, answer(400, b"no\n")), 1, "{other}: refused (400): no"),
        ((answer(400, b"no\n"), BUSY), 1, "{one}: refused (400): no"),
        ((BUSY, answer(403, b"no\n")), 77, "{other}: refused (403): no; sent without a credential"),
    ],
)
def test_the_error_of_several_addresses_says_which(
    answers: tuple[bytes, bytes], status: int, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """The operator would look at the wrong daemon; a script would take the event for lost for ever."""
    with Server(answers[0]) as one, Server(answers[1]) as other:
        assert run(["a=1", "--http", one.url, "--http", other.url], {}) == status
        expected = said.format(one=one.url, other=other.url)
    assert capfd.readouterr().err.startswith(f"oneshot-emit: {expected}")
