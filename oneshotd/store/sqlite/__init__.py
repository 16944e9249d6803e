"""The default store: a SQLite file, worked by one thread."""
