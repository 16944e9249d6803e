"""`--exec`: the command cannot tell that it is watched, and its caller only by one event."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from support.emit_process import EMIT, NOBODY, PATIENCE, emit, environment, started
from support.emit_server import Server, answer
from support.processes import until

pytestmark = pytest.mark.e2e


def reported(server: Server) -> dict[str, str]:
    """The one event that was sent."""
    (body,) = server.bodies()
    return dict(parse_qsl(body.decode()))


@pytest.mark.parametrize(
    ("script", "status", "code"),
    [
        ("exit 0", "ok", 0),
        ("exit 3", "failed", 3),
        ("exit 255", "failed", 255),
        ("kill -9 $$", "killed", 137),
        ("kill -TERM $$", "killed", 143),
    ],
)
def test_the_event_and_the_exit_status_say_how_it_ended(script: str, status: str, code: int) -> None:
    """A failed backup would look like a good one, to cron or in Prometheus."""
    with Server() as server:
        done = emit("--exec", "type=cron", "task=backup", "--", "sh", "-c", script, url=server.url)
    assert done.returncode == code
    event = reported(server)
    assert 0 <= float(event.pop("value")) < PATIENCE
    assert event == {"type": "cron", "task": "backup", "status": status, "exit_code": str(code)}
    assert done.stderr == b""


def test_the_value_is_how_long_it_took() -> None:
    """The duration would be that of something else."""
    with Server() as server:
        began = time.monotonic()
        emit("--exec", "--", "sleep", "0.3", url=server.url)
        whole = time.monotonic() - began
    assert 0.3 <= float(reported(server)["value"]) < whole


def test_input_output_and_arguments_are_the_commands() -> None:
    """A pipe through the command would break."""
    words = ["--exec", "a=1", "--", "sh", "-c", 'cat; echo "$@" >&2', "sh", "--value", "x y", "--", "-"]
    done = emit(*words, stdin=b"in\x00put\n")
    assert done.stdout == b"in\x00put\n"
    assert done.stderr.startswith(b"--value x y -- -\n")


@pytest.mark.parametrize(
    ("words", "code"), [(["/nonesuch/x"], 127), (["nonesuch-command"], 127), (["/etc"], 126)]
)
def test_a_command_that_cannot_be_run_has_a_shells_status(words: list[str], code: int) -> None:
    """A job whose program is missing would fail without a word, or an event."""
    with Server() as server:
        done = emit("--exec", "a=1", "--", *words, url=server.url)
    assert done.returncode == code
    assert done.stderr.startswith(f"oneshot-emit: {words[0]}: ".encode())
    assert reported(server)["exit_code"] == str(code)
    assert reported(server)["status"] == "failed"


def test_a_script_without_a_first_line_runs(tmp_path: Path) -> None:
    """What a shell and cron run would no longer run behind `oneshot-emit`."""
    script = tmp_path / "old script"
    script.write_text('echo "$1"; exit 4\n')
    script.chmod(0o755)
    done = emit("--exec", "a=1", "--", str(script), "it ran")
    assert (done.returncode, done.stdout) == (4, b"it ran\n")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (NOBODY, b"Connection refused"),
        ("udp://127.0.0.1:1", b"nobody listens there"),
        ("http://nowhere.invalid:1", b""),
        ("nonsense", b"$ONESHOTD_URL: expected http://HOST:PORT"),
    ],
)
def test_a_daemon_that_is_away_changes_nothing(url: str, why: bytes) -> None:
    """Every cron job would fail with the daemon."""
    done = emit("--exec", "a=1", "--", "sh", "-c", "echo out; exit 3", url=url)
    assert (done.returncode, done.stdout) == (3, b"out\n")
    (line,) = done.stderr.splitlines()
    assert line.startswith(b"oneshot-emit: not reported: ")
    assert why in line


def test_a_daemon_that_refuses_changes_nothing() -> None:
    """A good backup would count as failed."""
    with Server(answer(400, b"no\n")) as server:
        done = emit("--exec", "a=1", "--", "true", url=server.url)
    assert done.returncode == 0
    assert done.stderr == f"oneshot-emit: not reported: {server.url}: refused (400): no\n".encode()


def test_a_daemon_that_says_nothing_holds_the_caller_for_the_timeout_only() -> None:
    """Jobs would pile up behind a daemon that hangs."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        began = time.monotonic()
        done = emit("--exec", "--timeout", "300ms", "--", "true", url=url)
        assert time.monotonic() - began < 5.0
    assert done.returncode == 0
    assert done.stderr == f"oneshot-emit: not reported: {url}: no answer within 0.3 s\n".encode()


#: Resolves names for ever, then runs oneshot-emit with the words.
SLOW_RESOLVER = """
import socket, sys, threading
socket.getaddrinfo = lambda *_, **__: threading.Event().wait()
from oneshotd.emit import main
sys.exit(main())
"""


def test_a_resolver_that_hangs_holds_the_caller_for_the_timeout_only() -> None:
    """A broken DNS, which takes its own time, would hold every job."""
    words = ("--exec", "--timeout", "200ms", "--", "sh", "-c", "exit 3")
    done = subprocess.run(
        (sys.executable, "-P", "-c", SLOW_RESOLVER, *words),
        env=environment("http://daemon.example:8090"),
        capture_output=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 3
    assert done.stderr == b"oneshot-emit: not reported: no answer within 0.2 s\n"


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_nowhere_to_complain_changes_nothing(closed: str) -> None:
    """A job started without standard error would fail with the daemon."""
    line = f'"$@" --exec a=1 -- sh -c "exit 3" {closed}'
    words = ("sh", "-c", line, "sh", *EMIT)
    buffered = {name: text for name, text in environment().items() if name != "PYTHONUNBUFFERED"}
    assert subprocess.run(words, env=buffered, timeout=PATIENCE).returncode == 3


#: Says that it is ready, tells each signal by its name, and ends after the second one. Not by
#: `print`, whose buffer may be in use when the signal comes.
TELLER = """
import os, signal, sys, time
told = []
def tell(number, frame):
    os.write(1, signal.Signals(number).name.encode() + b"\\n")
    told.append(number)
for name in ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2"):
    signal.signal(getattr(signal, "SIG" + name), tell)
os.write(1, b"ready\\n")
while len(told) < 2:
    time.sleep(0.01)
sys.exit(9)
"""


@pytest.mark.parametrize("name", ["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2"])
def test_signals_are_the_commands(name: str) -> None:
    """`kill` and `systemctl stop` would end the watcher and leave the command running."""
    with Server() as server, started("--exec", "--", sys.executable, "-c", TELLER, url=server.url) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        child.send_signal(signal.Signals[name])
        assert child.stdout.readline() == name.encode() + b"\n"
        assert child.poll() is None
        child.send_signal(signal.SIGUSR1)
        assert child.communicate(timeout=PATIENCE) == (b"SIGUSR1\n", b"")
        assert child.returncode == 9
    assert reported(server)["status"] == "failed"


SLEEPER = ("--exec", "--", "sh", "-c", "echo; exec sleep 60")


def test_a_command_that_dies_of_the_signal_is_reported_all_the_same() -> None:
    """A job that is stopped by a signal would be missing in Prometheus."""
    with (
        Server() as server,
        started(*SLEEPER, url=server.url) as child,
    ):
        assert child.stdout is not None
        assert child.stdout.readline() == b"\n"
        child.terminate()
        child.communicate(timeout=PATIENCE)
        assert child.returncode == 143
    assert reported(server)["status"] == "killed"


def test_a_signal_ends_the_report_and_not_the_status() -> None:
    """With a long `--retry` nobody could end it, or the job would look killed."""
    words = ("--exec", "--retry", "1h", "--", "sh", "-c", "exit 3")
    with Server(answer(503, b"busy\n")) as server, started(*words, url=server.url) as child:
        until(lambda: len(server.asked) > 1, PATIENCE, "two attempts")
        child.terminate()
        child.communicate(timeout=PATIENCE)
    assert child.returncode == 3


def test_ignored_signals_stay_ignored() -> None:
    """`nohup` and a background job's Ctrl-C would reach the command."""
    with Server() as server:
        script = "trap '' HUP INT; \"$@\""
        inner = ("sh", "-c", 'kill -HUP $PPID; kill -HUP $$; kill -INT $$; echo "still here"')
        done = subprocess.run(
            ("sh", "-c", script, "sh", *EMIT, "--exec", "--", *inner),
            env=environment(server.url),
            capture_output=True,
            timeout=PATIENCE,
        )
    assert (done.returncode, done.stdout) == (0, b"still here\n")
    assert reported(server)["status"] == "ok"


def test_the_command_starts_with_the_signals_of_a_program_of_its_own() -> None:
    """`yes | head -1` inside the command would never end: Python ignores SIGPIPE."""
    script = "import signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, ()))"
    assert emit("--exec", "--", sys.executable, "-c", script).stdout == b"set()\n"
    script = 'trap "" PIPE; trap - PIPE; yes | head -1; echo done'
    assert emit("--exec", "--", "bash", "-c", script).stdout == b"y\ndone\n"
    status = emit("--exec", "--", "grep", "SigIgn", "/proc/self/status").stdout.split()
    ignored = int(status[1], 16) if status else 0
    assert not ignored & (1 << (signal.SIGPIPE - 1))


def test_a_caller_that_ignores_its_children_gets_the_status() -> None:
    """Started by such a program, the status would be lost."""
    script = "trap '' CHLD; exec \"$@\""
    words = ("bash", "-c", script, "bash", *EMIT, "--exec", "--", "sh", "-c", "exit 3")
    assert subprocess.run(words, env=environment(), capture_output=True, timeout=PATIENCE).returncode == 3


def test_ctrl_c_reaches_the_command_once() -> None:
    """A program that ends in haste at the second Ctrl-C would always do so."""
    with Server() as server:
        words, env = (*EMIT, "--exec", "--", sys.executable, "-c", TELLER), environment(server.url)
        child, terminal = pty.fork()
        if child == 0:
            os.execve(words[0], words, env)
        try:
            said = _read(terminal, b"ready")
            os.write(terminal, b"\x03")
            said += _read(terminal, b"SIGINT")
            os.kill(child, signal.SIGTERM)  # from outside: the second one, after which it ends
            said += _read(terminal, b"SIGTERM")
            _, status = os.waitpid(child, 0)
        finally:
            os.close(terminal)  # what still runs is hung up
    assert os.waitstatus_to_exitcode(status) == 9
    assert said.count(b"SIGINT") == 1
    assert reported(server)["exit_code"] == "9"


def _read(terminal: int, text: bytes) -> bytes:
    """What the terminal shows until it shows this."""
    shown = b""
    deadline = time.monotonic() + PATIENCE
    while text not in shown:
        assert time.monotonic() < deadline, shown
        shown += os.read(terminal, 1024)
    return shown
