"""Slides or cases as they are shown: the best first, spread over cases or sites, good enough.

The ranking is walked from its best end, and what has its share is passed over, as `spread` does
with tiles. What a column says of a case is what it says of all its slides that may be found; where
they don't agree, that is nothing, and the case is alike to none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from microtome.atlas.mosaics import Numbers
from microtome.search.filters import none_of
from microtome.search.slide_facts import Groups, SlideFacts
from microtome.search.slide_methods import Scored
from microtome.search.slide_result import SlideSettings
from microtome.search.spread import within
from microtome.slides.slide import Scalar

FURTHER: Final = 4
"""What ends short, a walk or a look for candidates, goes so many times as far."""


@dataclass(frozen=True, slots=True)
class Walked:
    """How far a ranking was walked.

    Attributes:
        places: of the hits among what was scored, best first.
        full: values of the column of which there are as many hits as there may be.
        low: whether what is left scores too little.
    """

    places: Numbers
    full: tuple[Scalar, ...]
    low: bool

    def ends(self, k: int, before: int) -> bool:
        """Whether there are k hits, or no more than before and what is left scores too little.

        Candidates are no strict ranking: with some that score too little others may be missing
        that don't.
        """
        return len(self.places) >= k or (self.low and len(self.places) <= before)


@dataclass(frozen=True)
class Ranking:
    """Chooses hits among groups of slides.

    Attributes:
        settings: say k, `spread` and `min_score`.
        facts: of all slides.
        groups: how they are taken together.
        there: (F,) which slides may be found.
    """

    settings: SlideSettings
    facts: SlideFacts
    groups: Groups
    there: NDArray[np.bool_]

    @cached_property
    def values(self) -> Sequence[Scalar]:
        """What the column, over which hits are spread, says of each group; None for nothing."""
        if self.settings.spread is None:
            return [None] * len(self.groups.names)
        told = self.facts.told(self.settings.spread.column)
        if self.settings.level == "slide":
            return told
        found: list[set[Scalar]] = [set() for _ in self.groups.names]
        for place in np.flatnonzero(self.there).tolist():
            found[self.groups.of[place]].add(told[place])
        return [next(iter(values)) if len(values) == 1 else None for values in found]

    def walk(self, scored: Scored) -> Walked:
        """The best k of which none scores too little, and no value has more than its share."""
        spread, k = self.settings.spread, self.settings.k
        least = -math.inf if self.settings.min_score is None else self.settings.min_score
        count = k
        while True:
            best = self._best(scored, count)
            good = best[scored.scores[best] >= least]
            low = len(good) < len(best)
            if spread is None:
                return Walked(good, (), low)
            values = [self.values[group] for group in scored.groups[good].tolist()]
            kept, full = within(values, spread.most)
            if len(kept) >= k or low or len(best) == len(scored.groups):
                return Walked(good[kept[:k]], tuple(full), low)
            count *= FURTHER

    def of_values(self, values: Sequence[Scalar]) -> Numbers:
        """Groups of which the column says one of these."""
        wanted = set(values)
        return np.array([g for g, value in enumerate(self.values) if value in wanted], np.int64)

    def without(self, values: Sequence[Scalar]) -> str:
        """The condition on tiles that they are of none of these groups; empty for no values."""
        spread = self.settings.spread
        if spread is None or self.settings.level == "slide":
            return none_of(spread.column, values) if spread else ""
        own = np.isin(self.groups.of, self.of_values(values))
        return none_of("slide_id", self.facts.slide_ids[own].tolist())

    def _best(self, scored: Scored, count: int) -> Numbers:
        """The best so many, best first; equal scores by what else counts, then by id."""
        names, some = self.groups.names, np.arange(len(scored.groups))
        if len(some) > count:
            some = np.flatnonzero(scored.scores >= np.partition(scored.scores, -count)[-count])

        def key(place: int) -> tuple[float, float, str]:
            slide_id, case_id = names[scored.groups[place]]
            return -scored.scores[place], -scored.ties[place], slide_id or case_id or ""

        return np.array(sorted(some.tolist(), key=key)[:count], dtype=np.int64)
