"""The container image, built from Debian's packages and tried in a runtime; see `__main__`."""
