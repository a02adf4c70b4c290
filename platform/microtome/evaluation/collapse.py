"""What leave-one-image-out hides: how far R@1 falls once a query's slide or patient is left out.

The two are compared over the same queries, those that have something to find in both, since a class
of one patient can't be found without them and would fall by arithmetic alone. The interval is of
the paired difference, drawn by group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microtome.evaluation.intervals import Interval, bootstrap
from microtome.evaluation.metrics import Scores


@dataclass(frozen=True, slots=True)
class Collapse:
    """R@1 with a query's own group to be found, and without.

    Attributes:
        name: whose.
        group: what is left out.
        queries: that have something to find in both.
        loose: R@1 of them with their own group.
        strict: R@1 of them without.
        fall: the interval of the difference; None where there is one group.
        gain: the interval of what `strict` has more than chance; None where there is one group.
        chance: R@1 of a random order, with and without.
    """

    name: str
    group: str
    queries: int
    loose: float
    strict: float
    fall: Interval | None
    gain: Interval | None
    chance: tuple[float, float]

    @property
    def certain(self) -> bool:
        """Whether the fall is more than the luck of the draw."""
        return self.fall is not None and self.fall.low > 0

    @property
    def better_than_chance(self) -> bool:
        """Whether what is left with the group left out is more than the luck of the draw."""
        return self.gain is not None and self.gain.low > 0

    @property
    def sentence(self) -> str:
        """What there is to be said, in a sentence or two."""
        group = self.group
        if not self.queries:
            return (
                f"{self.name}: no class is of two of these, so nothing is to be found with its own "
                f"{group} left out, and leave-one-image-out says nothing of another {group}"
            )
        figures = (
            f"{self.name}: R@1 is {self.loose:.1%} with the query's own {group} in the gallery and "
            f"{self.strict:.1%} without (chance: {self.chance[0]:.1%} and {self.chance[1]:.1%}; "
            f"{self.queries:,} queries that have something to find in both)"
        )
        if self.fall is None or self.fall.low <= 0:
            return f"{figures}. Leaving the {group} out takes nothing away that is certain"
        return (
            f"{figures}. {100 * (self.loose - self.strict):.0f} points (95 %: "
            f"{100 * self.fall.low:.0f} to {100 * self.fall.high:.0f}) of what leave-one-image-out "
            f"shows are images of one {group} finding each other. Of another {group} only the "
            "second figure speaks"
            + ("" if self.better_than_chance else ", and it isn't certainly better than chance")
        )

    def to_json(self) -> dict[str, Any]:
        """The figures and the sentence."""
        return {
            "model": self.name,
            "group": self.group,
            "queries": self.queries,
            "R@1": {"own group to be found": self.loose, "own group left out": self.strict},
            "chance": {
                "own group to be found": self.chance[0],
                "own group left out": self.chance[1],
            },
            "fall": self.fall and self.fall.to_json(),
            "certain": self.certain,
            "better than chance": self.better_than_chance,
            "sentence": self.sentence,
        }


def collapse_between(
    name: str,
    group: str,
    scores: tuple[Scores, Scores],
    chance: tuple[NDArray[np.float64], NDArray[np.float64]],
    groups: Sequence[str | None],
    seed: int,
) -> Collapse:
    """Compare two arms of one collection.

    Args:
        name: of the contender.
        group: what is left out in the second.
        scores: of the same queries in the same order, first with their own group to be found.
        chance: (Q,) R@1 of a random order, of each query.
        groups: of each query.
        seed: of the draws.
    """
    loose, strict = (one.per_query["R@1"] for one in scores)
    both = scores[1].to_find > 0
    if not both.any():
        return Collapse(name, group, 0, 0.0, 0.0, None, None, (0.0, 0.0))
    fall, gain = (
        bootstrap(np.where(both, difference, np.nan), groups, seed)
        for difference in (loose - strict, strict - chance[1])
    )
    return Collapse(
        name,
        group,
        int(both.sum()),
        float(loose[both].mean()),
        float(strict[both].mean()),
        fall,
        gain,
        (float(chance[0][both].mean()), float(chance[1][both].mean())),
    )
