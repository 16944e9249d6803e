"""Scrapes: reserve events, render a response, settle how it ended."""
