"""What leave-one-image-out hides: how far R@1 falls once a query's slide or patient is left out.

The two are compared over the same queries, those that have something to find in both, since a class
of one patient can't be found without them and would fall by arithmetic alone. R@1 falls too because
fewer of a query's class are left: so beside them stands the matched control of `matched`, and only
what that has more than the group left out is the group's doing. Intervals are of paired
differences, drawn by group; with fewer than `intervals.LEAST` nothing is called certain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from microtome.evaluation.intervals import LEAST, Interval, bootstrap

_DIFFERENCE: Final = (-1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Answered:
    """R@1 of the same (Q,) queries in three ways, and what a random order would score.

    Attributes:
        loose: with their own group to be found.
        strict: with it left out.
        matched: with as many others left out instead.
        chance: loose and strict, of a random order.
        both: whether each has something to find with its group left out; the others don't count.
        groups: of each.
    """

    loose: NDArray[np.float64]
    strict: NDArray[np.float64]
    matched: NDArray[np.float64]
    chance: tuple[NDArray[np.float64], NDArray[np.float64]]
    both: NDArray[np.bool_]
    groups: Sequence[str | None]

    def mean(self, each: NDArray[np.float64]) -> float:
        """Over the queries that count; 0 where none does."""
        return float(each[self.both].mean()) if self.both.any() else 0.0

    def interval(self, difference: NDArray[np.float64], seed: int) -> Interval | None:
        """Of a difference's mean; None where there is nothing to draw from."""
        if not self.both.any():
            return None
        each = np.where(self.both, difference, np.nan)
        return bootstrap(each, self.groups, seed, bounds=_DIFFERENCE)


@dataclass(frozen=True, slots=True)
class Collapse:
    """R@1 with a query's own group to be found, and without.

    Attributes:
        name: whose.
        group: what is left out.
        queries: that have something to find in both.
        loose: R@1 of them with their own group.
        strict: R@1 of them without.
        matched: R@1 of them with as many others left out instead.
        fall: the interval of `loose` − `strict`; None where there is one group.
        due: the interval of `matched` − `strict`, what is the group's doing; likewise.
        gain: the interval of what `strict` has more than chance; likewise.
        chance: R@1 of a random order, with and without.
    """

    name: str
    group: str
    queries: int
    loose: float
    strict: float
    matched: float
    fall: Interval | None
    due: Interval | None
    gain: Interval | None
    chance: tuple[float, float]

    @property
    def certain(self) -> bool:
        """Whether what is the group's doing is more than the luck of the draw."""
        return _above_nothing(self.due)

    @property
    def better_than_chance(self) -> bool:
        """Whether what is left with the group left out is more than the luck of the draw."""
        return _above_nothing(self.gain)

    @property
    def sentence(self) -> str:
        """What there is to be said, in a few sentences."""
        group = self.group
        if not self.queries:
            return (
                f"{self.name}: no query has an image of its class to be found with its own "
                f"{group} left out, and leave-one-image-out says nothing of another {group}"
            )
        figures = (
            f"{self.name}: R@1 is {self.loose:.1%} with the query's own {group} in the gallery and "
            f"{self.strict:.1%} without (chance: {self.chance[0]:.1%} and {self.chance[1]:.1%}; "
            f"{self.queries:,} queries that have something to find in both), a fall of "
            f"{100 * (self.loose - self.strict):.0f} points{_ends(self.fall)}; with as many images "
            f"of others left out instead it is {self.matched:.1%}"
        )
        if not self.certain:
            return f"{figures}. Leaving the {group} out takes nothing more away that is certain"
        return (
            f"{figures}. So {100 * (self.matched - self.strict):.0f} points{_ends(self.due)} of "
            f"what leave-one-image-out shows are images of one {group} finding each other. Of "
            f"another {group} only the figure without speaks"
            + ("" if self.better_than_chance else ", and it isn't certainly better than chance")
        )

    def to_json(self) -> dict[str, Any]:
        """The figures and the sentence."""
        return {
            "model": self.name,
            "group": self.group,
            "queries": self.queries,
            "R@1": {
                "own group to be found": self.loose,
                "own group left out": self.strict,
                "as many others left out": self.matched,
            },
            "chance": {
                "own group to be found": self.chance[0],
                "own group left out": self.chance[1],
            },
            "fall": self.fall and self.fall.to_json(),
            "due to the group": self.due and self.due.to_json(),
            "certain": self.certain,
            "better than chance": self.better_than_chance,
            "sentence": self.sentence,
        }


def collapse_between(name: str, group: str, answered: Answered, seed: int) -> Collapse:
    """Compare two arms of one collection.

    Args:
        name: of the contender.
        group: what is left out in the second.
        answered: what each query scored.
        seed: of the draws.
    """
    loose, strict, matched = answered.loose, answered.strict, answered.matched
    return Collapse(
        name,
        group,
        queries=int(answered.both.sum()),
        loose=answered.mean(loose),
        strict=answered.mean(strict),
        matched=answered.mean(matched),
        fall=answered.interval(loose - strict, seed),
        due=answered.interval(matched - strict, seed),
        gain=answered.interval(strict - answered.chance[1], seed),
        chance=(answered.mean(answered.chance[0]), answered.mean(answered.chance[1])),
    )


def _above_nothing(interval: Interval | None) -> bool:
    return interval is not None and interval.drawn >= LEAST and interval.low > 0


def _ends(interval: Interval | None) -> str:
    if interval is None:
        return ""
    return f" (95 %: {100 * interval.low:.0f} to {100 * interval.high:.0f})"
