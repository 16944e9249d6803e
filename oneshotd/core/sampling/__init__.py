"""Pending events to the samples of one scrape response."""
