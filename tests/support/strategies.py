"""Hypothesis strategies for what flows through the daemon, shared by all tests."""

from __future__ import annotations

from hypothesis import strategies as st

from oneshotd.core.events import Group, NewEvent, series_text
from oneshotd.core.parsing.grammar import Rules
from oneshotd.core.parsing.numbers import canonical

RULES = Rules()

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DIGITS = "0123456789"


def written(name: str) -> str:
    """A label's name as it is exposed: the rule of the grammar, told a second time."""
    legal = "".join(char if char in _LETTERS + _DIGITS + "_" else "_" for char in name)
    return "_" + legal if legal[0] in _DIGITS else legal


def kept(text: str) -> str:
    """A label's value as it is exposed: the rule of the grammar for line ends, told a second time."""
    return "\n".join((text + ".").splitlines())[:-1]


def texts(*, max_size: int = 30) -> st.SearchStrategy[str]:
    """Any text that has a UTF-8 form, with a liking for what formats stumble over."""
    anything = st.characters(exclude_categories=["Cs"])
    awkward = st.sampled_from('\\"\n\r\t\0 {}=,&+%#;\x0b\x0c\x1c\x1d\x1e\u2028\u2029\u0085\ufeff\U0001f600')
    return st.text(anything | awkward, max_size=max_size)


def _raw_names() -> st.SearchStrategy[str]:
    """Label names as people write them: letters and digits of any script, and some signs."""
    letters = st.characters(categories=["L", "M", "Nd"])
    return st.text(letters | st.sampled_from("_-./:"), min_size=1, max_size=8)


def label_names() -> st.SearchStrategy[str]:
    """Label names as they are exposed; never one that the grammar gives a meaning."""
    first = st.sampled_from(_LETTERS)
    rest = st.text(st.sampled_from(_LETTERS + _DIGITS + "_"), max_size=8)
    return st.builds(str.__add__, first, rest).filter(lambda name: name != "value")


def raw_labels(*, max_size: int = 6) -> st.SearchStrategy[dict[str, str]]:
    """Labels as a client may write them, no two written alike."""
    names = label_names() | _raw_names().filter(
        lambda name: name != "value" and not name.startswith("detail.") and not written(name).startswith("__")
    )
    pairs = st.lists(st.tuples(names, texts()), max_size=max_size, unique_by=lambda pair: written(pair[0]))
    return pairs.map(dict)


def labels(*, max_size: int = 4) -> st.SearchStrategy[dict[str, str]]:
    """Labels as they are exposed."""
    return st.dictionaries(label_names(), texts().filter(bool), max_size=max_size)


def metric_names() -> st.SearchStrategy[str]:
    """Metric names that events may have."""
    return st.from_regex(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,20}", fullmatch=True).filter(
        lambda name: RULES.fault(name) is None
    )


def series() -> st.SearchStrategy[str]:
    """Canonical series texts."""
    return st.builds(
        lambda name, pairs: series_text(name, pairs.items()),
        st.just(RULES.metric) | metric_names(),
        labels(),
    )


def sample_values() -> st.SearchStrategy[str]:
    """Sample values in their canonical text."""
    return st.floats().map(lambda number: canonical(repr(number))) | st.integers(-1000, 1000).map(str)


def new_events(*, keys: st.SearchStrategy[str | None] | None = None) -> st.SearchStrategy[NewEvent]:
    """Events, half of them without a value; without keys, unless a strategy for those is given."""
    return st.builds(NewEvent, series(), st.none() | sample_values(), keys or st.none())


def groups(*, max_size: int = 5) -> st.SearchStrategy[Group]:
    """Groups of events, with a key for the whole or none."""
    return st.builds(
        Group,
        events=st.lists(new_events(), min_size=1, max_size=max_size),
        key=st.none() | st.text(_LETTERS, min_size=1, max_size=4),
    )
