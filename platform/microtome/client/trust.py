"""How far a server says that its hits can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the best tile is a good match.

    Attributes:
        no_good_match: whether nothing found looks alike; None where that can't be told.
        score: of the best.
        p_value: share of the atlas's tiles, due a match, that score as little.
        threshold: a score below it is no good match; None where too few tiles tell.
        alpha: of queries that have a good match, at most this share is said to have none.
        tiles: how many scores that rests on.
        parts: of the query, of which the best scores so.
    """

    no_good_match: bool | None
    score: float
    p_value: float
    threshold: float | None
    alpha: float
    tiles: int
    parts: int = 1


@dataclass(frozen=True, slots=True)
class SiteBias:
    """How much of the ranking the query's own site explains; of hits of other cases.

    Attributes:
        column: that tells the site.
        value: what it says of the query's slide.
        hits: of those whose site is known.
        same: of those that are of the query's site.
        expected: share of them by chance, 0 to 1.
        observed: share of them that was found.
        excess: (observed − expected) / (1 − expected); None where that says nothing.
    """

    column: str
    value: Any
    hits: int
    same: int
    expected: float
    observed: float
    excess: float | None = None
