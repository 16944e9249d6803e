"""Guesses passwords as fast as it can; run as a program, so that nothing else of a test slows it down.

python guesser.py PORT ADDRESSES GUESSES     (each address guesses so often; prints the statuses as JSON)
"""

from __future__ import annotations

import json
import subprocess
import sys
from base64 import b64encode
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection


def guess(port: int, address: str, guesses: int) -> Counter[int]:
    """Guess the password of a user, over one connection; return the statuses of the answers."""
    found: Counter[int] = Counter()
    connection = HTTPConnection("127.0.0.1", port, timeout=60, source_address=(address, 0))
    for number in range(guesses):
        value = b64encode(f"ci:{address} {number}".encode()).decode()
        connection.request("GET", "/metrics", headers={"Authorization": f"Basic {value}"})
        response = connection.getresponse()
        response.read()
        found[response.status] += 1
    connection.close()
    return found


def start(port: int, addresses: int, guesses: int) -> subprocess.Popen[bytes]:
    """Guess in a process of its own."""
    command = (sys.executable, __file__, str(port), str(addresses), str(guesses))
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def main(port: int, addresses: int, guesses: int) -> None:
    with ThreadPoolExecutor(addresses) as threads:
        each = threads.map(lambda number: guess(port, f"127.0.1.{number}", guesses), range(1, addresses + 1))
        print(json.dumps(sum(each, Counter())))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
