"""oneshotd: an event goes in once and comes out once to each Prometheus-style scraper."""

__version__ = "0.1.0"
