"""The status page and the health of the daemon."""
