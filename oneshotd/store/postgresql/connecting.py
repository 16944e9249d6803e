"""Open a connection to a PostgreSQL server, with the settings that a daemon relies on."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from oneshotd.errors import StoreRefused, StoreUnavailable

if TYPE_CHECKING:
    import psycopg

#: Libpq's parameters, unless the address has its own: a dead network is noticed within 6 s, and a host that
#: takes no writes is passed over.
_PARAMETERS = {
    "connect_timeout": "3",
    "keepalives": "1",
    "keepalives_idle": "3",
    "keepalives_interval": "1",
    "keepalives_count": "3",
    "tcp_user_timeout": "5000",
    "target_session_attrs": "read-write",
    "application_name": "oneshotd",
}
_OPTIONS = (
    "-c default_transaction_isolation=read\\ committed -c lock_timeout=5000 -c statement_timeout=15000"
    " -c idle_in_transaction_session_timeout=10000 -c client_connection_check_interval=5000"
    # The server ends the session of a daemon whose machine is gone after this time, and with it its locks.
    " -c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3"
    " -c standard_conforming_strings=on -c oneshotd.session=on"
    # A plan is kept. While a table is small, it would read all of it, and go on so when the table has grown.
    " -c enable_seqscan=off -c jit=off"
)

_POOLER = (
    "a connection pooler such as PgBouncer is in between, which does not work: connect to the server itself,"
    " a daemon has only two connections"
)


def library() -> Any:
    """Import psycopg.

    :raises StoreRefused: it is not installed, or too old.
    """
    try:
        import psycopg
    except ImportError as error:
        raise StoreRefused(
            "a PostgreSQL store needs the package psycopg: pip install 'oneshotd[postgresql]', or Debian's"
            f" python3-psycopg ({error})"
        ) from error
    # A lost connection inside a pipeline makes it warn of what is reported as an error anyway.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    return psycopg


def connect(address: str) -> psycopg.Connection[Any]:
    """Open a connection to a server, and not to a pooler.

    A pooler gives a session to several clients by turns: the settings of one meet the others, and prepared
    statements are not where they were.
    """
    package = library()
    given = package.conninfo.conninfo_to_dict(address)
    parameters = {**_PARAMETERS, **given, "client_encoding": "UTF8"}
    parameters["options"] = f"{_OPTIONS} {given.get('options', '')}".strip()
    try:
        connection: psycopg.Connection[Any] = package.connect(
            autocommit=True, prepare_threshold=3, **parameters
        )
    except package.OperationalError as error:
        if "startup parameter" in str(error):
            raise StoreRefused(f"{_POOLER} ({reason_of(error)})") from error
        raise
    try:
        kept = connection.execute("SELECT current_setting('oneshotd.session', true)").fetchone()
    except BaseException:
        connection.close()
        raise
    if kept != ("on",):
        connection.close()
        raise StoreRefused(f"{_POOLER} (it dropped the settings of the session)")
    return connection


def reason_of(error: BaseException) -> str:
    """Return an error's text in one bounded line."""
    return (" ".join(str(error).split()) or type(error).__name__)[:200]


def unavailable(error: BaseException) -> StoreUnavailable:
    """Return the error for a client's request that could not be stored."""
    return StoreUnavailable(f"the database cannot be used: {reason_of(error)}")
