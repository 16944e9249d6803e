"""The daemon is killed while its settlement is on the way to a database: each event is there once.

The rest of the steps is in test_receiver_steps.py.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from support.cut_line import CutLine
from support.daemon import Daemon
from support.postgresql_server import running_server
from support.processes import free_port, until
from support.receiver_steps import PATIENCE, await_end, check, hold
from support.receivers import STORES, receiver, receivers_file
from support.step_line import Step, StepLine

pytestmark = pytest.mark.e2e

NEWEST = next(store for store in STORES if store.name == "prometheus-sid")


def test_a_kill_at_each_step_of_a_settlement(tmp_path: Path) -> None:
    """An event would be missing, or counted twice, whether the database has the settlement or not."""
    with (
        running_server() as database,
        receiver(NEWEST, tmp_path / "server") as server,
        StepLine(server.port) as line,
        closing(CutLine(database.socket)) as there,
    ):
        name = database.new_database()
        file = receivers_file(tmp_path / "receivers.toml", {"r": line.port}, visible='"1s"', timeout='"2s"')
        port = free_port()
        options = (
            f"--http=localhost:{port}",
            f"--udp=127.0.0.1:{port}",
            f"--store=postgresql:host=127.0.0.1 port={there.port} user={database.superuser} dbname={name}",
            f"--receivers={file}",
        )

        def delivered() -> int:
            """Return how many events the receiver has got, as the database has it."""
            with psycopg.connect(database.address(name)) as connection:
                [(events,)] = connection.execute("SELECT delivered FROM scraper WHERE name = 'r'").fetchall()
            return int(events)

        with Daemon(tmp_path / "daemon", options=options, port=port) as daemon:
            for step in ("the database never gets it", "the database has it, and the daemon does not know"):
                hold(daemon, line, Step.STORED)
                before, answers = delivered(), line.answers
                if step.endswith("know"):
                    there.lose_answers()
                else:
                    there.cut()
                line.release(goes_on=True)
                until(lambda: line.answers > answers, PATIENCE, "the answer")  # noqa: B023
                if step.endswith("know"):
                    until(lambda: delivered() > before, PATIENCE, "the settlement")  # noqa: B023
                daemon.kill()
                assert (delivered() > before) == step.endswith("know")
                there.join()
                daemon.start()
                check(daemon, server, step)
            await_end(server, "the last step")
