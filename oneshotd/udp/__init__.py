"""Datagrams to events."""
