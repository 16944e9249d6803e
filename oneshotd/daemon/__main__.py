"""``python -m oneshotd.daemon OPTIONS``: ``twistd oneshot`` in the foreground, also as process 1.

The kernel drops a signal to process 1 of a container for which no handler is set. twistd sets its handlers
when the reactor runs, after most of a second of imports, or ten where the processor is rationed: SIGTERM
would have no effect until then, and the container be killed after its time to stop.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence


def main(words: Sequence[str], run: Callable[[], object] | None = None) -> None:
    """Become the daemon.

    :param words: options of ``twistd oneshot``.
    :param run: runs twistd with `sys.argv`; None: twistd's own.
    """
    signal.signal(signal.SIGTERM, _end)
    try:
        os.chdir(".")  # as twistd does, with a traceback
    except OSError as error:
        sys.exit(f"twistd oneshot: the working directory {os.getcwd()}: {error.strerror}")
    sys.argv[:] = ["twistd", "--nodaemon", "--pidfile=", "oneshot", *words]
    if run is None:
        from twisted.scripts.twistd import run as twistd  # here: this takes the time

        run = twistd
    run()


def _end(number: int, frame: object) -> None:
    """End at once: nothing is accepted before the reactor runs, which sets a handler of its own."""
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
