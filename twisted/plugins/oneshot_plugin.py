"""What makes ``twistd oneshot`` known; this folder has no __init__.py, or it would hide Twisted's."""

from twisted.application.service import ServiceMaker

oneshot = ServiceMaker(
    "oneshotd",
    "oneshotd.daemon.tap",
    "Turn events into one-shot metrics, each once to every scraper.",
    "oneshot",
)
