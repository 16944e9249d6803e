"""Sends datagrams as fast as it can; run as a program, so that nothing else of a test slows it down.

python flood.py PORT SECONDS < DATAGRAM     (prints how many it has sent)
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from socket import AF_INET, SOCK_DGRAM, socket

#: Datagrams between two looks at the clock.
ROUND = 100


def flood(port: int, seconds: float, datagram: bytes) -> int:
    """Send it again and again; how often the kernel has taken it."""
    sent = 0
    end = time.monotonic() + seconds
    with socket(AF_INET, SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", port))
        while time.monotonic() < end:
            for _ in range(ROUND):
                with suppress(ConnectionRefusedError, BlockingIOError):
                    sender.send(datagram)
                    sent += 1
    return sent


def flooded(port: int, seconds: float, datagram: bytes) -> int:
    """`flood` in a process of its own."""
    command = (sys.executable, __file__, str(port), str(seconds))
    done = subprocess.run(command, input=datagram, stdout=subprocess.PIPE, timeout=seconds + 30, check=True)
    return int(done.stdout)


if __name__ == "__main__":
    print(flood(int(sys.argv[1]), float(sys.argv[2]), sys.stdin.buffer.read()))
