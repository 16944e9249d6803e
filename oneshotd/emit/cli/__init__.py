"""The command ``oneshot-emit``."""
