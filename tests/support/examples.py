"""How many examples Hypothesis generates for a property that wants more, or fewer, than others."""

from hypothesis import settings

#: Examples of a property in the profile `oneshotd`, which is Hypothesis' own number; `quick` has fewer.
_ALL = 100


def examples(count: int) -> settings:
    """Return settings with this many examples, or with the share of them that the profile in use takes.

    :param count: in the profile `oneshotd`, which `make test` uses.
    """
    profile = settings()
    return settings(max_examples=max(1, count * profile.max_examples // _ALL))
