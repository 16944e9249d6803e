"""Combinations of choices such that each pair of choices occurs together in one of them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, product

#: Dimension -> its choices, the usual one first.
Choices = Mapping[str, Sequence[str]]
Chosen = dict[str, str]
_Part = tuple[tuple[str, str], ...]


def singles(choices: Choices) -> Iterator[Chosen]:
    """Yield the usual choices, and then each other choice with all else as usual."""
    usual = {name: options[0] for name, options in choices.items()}
    yield usual
    for name, options in choices.items():
        for option in options[1:]:
            yield {**usual, name: option}


def whole_product(choices: Choices) -> Iterator[Chosen]:
    """Yield every combination."""
    for row in product(*choices.values()):
        yield dict(zip(choices, row, strict=True))


def covering(choices: Choices, strength: int = 2, seed: int = 22, candidates: int = 20) -> list[Chosen]:
    """Return combinations that have every `strength` choices of different dimensions together.

    Greedy: of some random rows, each built around a part that is still missing, the one with most missing
    parts comes next.
    """
    chance = random.Random(seed)
    missing = {
        part
        for names in combinations(choices, strength)
        for part in (
            tuple(zip(names, row, strict=True)) for row in product(*(choices[name] for name in names))
        )
    }
    rows: list[Chosen] = []
    while missing:
        wanted = min(missing)
        tried = [_candidate(choices, wanted, chance) for _ in range(candidates)]
        best = max(tried, key=lambda row: len(_parts(row, strength) & missing))
        missing -= _parts(best, strength)
        rows.append(best)
    return rows


def _candidate(choices: Choices, wanted: _Part, chance: random.Random) -> Chosen:
    return {name: chance.choice(options) for name, options in choices.items()} | dict(wanted)


def _parts(row: Chosen, strength: int) -> set[_Part]:
    return set(combinations(row.items(), strength))
