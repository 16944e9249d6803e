"""Remote write: send events to receivers that store each sample under the event's own time.

A receiver is a scraper to the store: it has a name, a cursor, owed events and losses.
"""
