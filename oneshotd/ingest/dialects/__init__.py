"""Translators of foreign formats: a request or a datagram to events. Pure; see `translation.py`."""
