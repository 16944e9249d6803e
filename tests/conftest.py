"""What holds for every test."""

from hypothesis import settings

# No deadline: a machine that is busy with something else must not fail a test.
settings.register_profile("oneshotd", deadline=None)
settings.load_profile("oneshotd")
