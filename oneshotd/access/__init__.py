"""Rules of access: which client may do what."""
