"""How many examples Hypothesis generates for a property that wants more, or less, than others."""

from hypothesis import settings

#: Examples of a property in the profile `oneshotd`; `quick` has fewer.
_ALL = 100


def examples(count: int) -> settings:
    """Return settings with this many examples, or the share of them that the profile in use takes.

    :param count: in the profile `oneshotd`, which `make test` uses.
    """
    return settings(max_examples=max(1, count * settings().max_examples // _ALL))
