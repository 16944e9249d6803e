"""Bytes to events: one grammar for every source."""
