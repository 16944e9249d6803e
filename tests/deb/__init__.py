"""The Debian package, built and tried in clean trees; see `__main__`."""
