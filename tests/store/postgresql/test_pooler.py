"""PgBouncer between daemon and server is refused, with the reason."""

from __future__ import annotations

import pytest
from support.pgbouncer import pgbouncer
from support.postgresql_backend import PostgreSQLBackend
from support.postgresql_server import PostgreSQLServer

from oneshotd.errors import StoreRefused


@pytest.mark.parametrize("mode", ["transaction", "session"])
@pytest.mark.parametrize("ignored", ["extra_float_digits", "options"])
def test_it_is_refused_in_each_mode(
    backend: PostgreSQLBackend, server: PostgreSQLServer, database: str, mode: str, ignored: str
) -> None:
    """The daemon would start, and answers would fail under load; or the reason would be a riddle."""
    with pgbouncer(server, mode, f"ignore_startup_parameters = {ignored}") as folder:
        backend.address = f"host={folder} user=oneshotd dbname={database}"
        with pytest.raises(StoreRefused, match=r"pooler such as PgBouncer .* connect to the server itself"):
            backend.another(None)
