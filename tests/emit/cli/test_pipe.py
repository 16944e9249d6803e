"""Lines of standard input as a user pipes them: followed, broken off, watched on a terminal."""

from __future__ import annotations

import array
import fcntl
import os
import pty
import signal
import subprocess
import termios

import pytest
from support.emit_process import EMIT, PATIENCE, emit, environment, started
from support.emit_server import STORED, Server, answer, tally
from support.processes import until

from oneshotd.emit.cli.stream import BATCH_LINES

pytestmark = pytest.mark.e2e


def test_a_stream_ends_with_what_became_of_its_lines() -> None:
    """A script could not tell whether all lines are stored."""
    with Server(tally(2), STORED) as server:
        assert emit("-", url=server.url, stdin=b"a=1\n\nb=2\n").returncode == 0
        assert emit("host=x", "-", url=server.url, stdin=b"c=3").returncode == 0
    assert server.bodies() == [b"a=1\nb=2", b"c=3&host=x\n"]
    with Server(answer(400, b"value: 'x' is not a number\n")) as server:
        done = emit("-", url=server.url, stdin=b"\na=1&value=x\n")
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == [
        "oneshot-emit: line 2: refused (400): value: 'x' is not a number",
        "oneshot-emit: refused 1 of 1 lines",
    ]
    done = emit("-", url=server.url, stdin=b"a=1\n")
    assert done.returncode == 75
    assert done.stderr == (
        f"oneshot-emit: {server.url}: Connection refused; stopped before line 1, with 0 sent\n".encode()
    )
    assert emit("-", url=server.url).returncode == 0


def test_an_input_that_cannot_be_read_is_told() -> None:
    """It would look like an empty one."""
    words = ("sh", "-c", '"$@" - <&-', "sh", *EMIT)
    done = subprocess.run(words, env=environment(), capture_output=True, timeout=PATIENCE)
    assert done.returncode == 2
    assert done.stderr.startswith(b"oneshot-emit: standard input: ")


def test_a_line_does_not_wait_for_others() -> None:
    """With `tail -f` an event would show when the thousandth comes."""
    with Server() as server, started("-", url=server.url) as child:
        assert child.stdin is not None
        for n in range(3):
            child.stdin.write(b"n=%d\n" % n)
            child.stdin.flush()
            until(lambda n=n: len(server.asked) > n, PATIENCE, "the line is sent")  # type: ignore[misc]
        child.communicate(timeout=PATIENCE)
    assert server.bodies() == [b"n=0\n", b"n=1\n", b"n=2\n"]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_what_was_read_goes_out_before_it_ends(name: str) -> None:
    """Ctrl-C at `tail -f` would lose the lines of the last moment."""
    with Server(STORED, tally(2)) as server, started("-", url=server.url) as child:
        assert child.stdin is not None
        child.stdin.write(b"n=0\n")
        child.stdin.flush()
        until(lambda: server.asked, PATIENCE, "the line is sent")
        child.stdin.write(b"n=1\nn=2\nhalf a li")
        child.stdin.flush()
        until(lambda: _unread(child) == 0, PATIENCE, "the lines are read")
        child.send_signal(signal.Signals[name])
        child.communicate(timeout=PATIENCE)
        assert child.returncode == 128 + signal.Signals[name]
    assert server.bodies() == [b"n=0\n", b"n=1\nn=2"]


def _unread(child: subprocess.Popen[bytes]) -> int:
    """Bytes in the pipe to its standard input."""
    assert child.stdin is not None
    count = array.array("i", [0])
    fcntl.ioctl(child.stdin, termios.FIONREAD, count)
    return count[0]


def test_a_signal_breaks_off_the_wait_for_a_daemon_that_is_away() -> None:
    """With a long `--retry` nobody could end it, or not know from which line on to go on."""
    with Server(answer(503, b"busy\n")) as server, started("--retry", "1h", "-", url=server.url) as child:
        assert child.stdin is not None
        child.stdin.write(b"n=0\n")
        child.stdin.flush()
        until(lambda: len(server.asked) > 1, PATIENCE, "two attempts")
        child.terminate()
        _, err = child.communicate(timeout=PATIENCE)
    assert child.returncode == 143
    assert err == b"oneshot-emit: SIGTERM; stopped before line 1, with 0 sent\n"


#: Shows progress at once, and takes the words.
HASTY = """
import sys
from oneshotd.emit.cli import progress as emit_progress
emit_progress.SHOWN_AFTER = emit_progress.SHOWN_EVERY = 0.0
from oneshotd.emit import main
sys.exit(main())
"""


def on_terminal(url: str, text: bytes, hasty: bool = True) -> bytes:
    """What a terminal shows of standard error while this is read from a pipe."""
    words = (EMIT[0], "-P", "-c", HASTY, "-") if hasty else (*EMIT, "-")
    mine, its = pty.openpty()
    try:
        done = subprocess.run(words, input=text, stderr=its, env=environment(url), timeout=PATIENCE)
        assert done.returncode in (0, 1)
        os.close(its)
        its = -1
        shown = b""
        try:
            while data := os.read(mine, 4096):
                shown += data
        except OSError:  # Linux: EIO at the end
            pass
        return shown
    finally:
        os.close(mine)
        if its >= 0:
            os.close(its)


def test_a_long_input_shows_how_far_it_is() -> None:
    """An hour's work would look as if it hung."""
    lines = b"n=1\n" * (BATCH_LINES + 1)
    with Server(tally(BATCH_LINES), STORED) as server:
        shown = on_terminal(server.url, lines)
    assert shown.startswith(b"\r\x1b[K1,000 events sent\r\x1b[K1,001 events sent")
    assert shown.endswith(b"\r\x1b[K1,001 events sent\r\n")


def test_a_message_does_not_mix_with_the_progress_line() -> None:
    """Which line is bad could not be read."""
    lines = b"n=1\n" * BATCH_LINES + b"bad\n"
    with Server(tally(BATCH_LINES), answer(400, b"no\n")) as server:
        shown = on_terminal(server.url, lines)
    assert b"\r\x1b[Koneshot-emit: line 1001: refused (400): no\r\n" in shown
    assert b"\r\x1b[K1,000 events sent, 1 refused\r\n" in shown


def test_a_short_input_shows_nothing() -> None:
    """Every script would print something."""
    with Server() as server:
        assert on_terminal(server.url, b"n=1\n", hasty=False) == b""
