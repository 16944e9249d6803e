"""Conditions of a mapping (`when`): whether an element becomes an event."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from oneshotd.core.parsing.grammar import quoted
from oneshotd.core.patterns import matches_any
from oneshotd.ingest.dialects.pointers import ABSENT, Document, Element, ElementName, Place, Pointer


@frozen(kw_only=True)
class Condition:
    """One condition.

    Texts are compared as a label would have them: a number in its own digits, `true` and `false`.

    :param place: what is looked at.
    :param exists: whether there has to be something that is not `null`; None: `texts` and `patterns` decide.
    :param texts: what it may be.
    :param patterns: what it may be, ``*`` stands for any text.
    :param negated: the condition holds where it would not.
    """

    place: Place
    exists: bool | None = None
    texts: frozenset[str] = frozenset()
    patterns: Sequence[str] = ()
    negated: bool = False

    def fault(self, document: Document, element: Element) -> str | None:
        """Return why the condition does not hold; None: it holds.

        :raises Refused: an object or an array stands where a text is compared.
        """
        if isinstance(self.place, ElementName) or (isinstance(self.place, Pointer) and not self.place.whole):
            return self._fault(document, element)
        # The text may be long, and there may be 10,000 elements.
        return document.remembered(self, lambda: self._fault(document, element))

    def _fault(self, document: Document, element: Element) -> str | None:
        if self.exists is not None:
            there = self._exists(document, element)
            if (there is self.exists) is not self.negated:
                return None
            return f"when: {self.place} is {'there' if there else 'not there'}"
        text = document.text("when", self.place, element)
        fits = text is not None and (text in self.texts or matches_any(self.patterns, text))
        if fits is not self.negated:
            return None
        return f"when: {self.place} is {'not there' if text is None else quoted(text)}"

    def _exists(self, document: Document, element: Element) -> bool:
        if isinstance(self.place, Pointer):
            found = document.value(self.place, element)
            return found is not ABSENT and found is not None
        return document.text("when", self.place, element) is not None
