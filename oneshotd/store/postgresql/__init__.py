"""The PostgreSQL store: several daemons share one database."""
