"""The store of events, cursors and idempotency keys: one interface, one package per back end."""
