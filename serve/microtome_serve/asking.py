"""One question to the graph, as it goes from the ingress to the atlas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from microtome.search.query import ImageQuery, Query
from microtome_serve.filters import Condition

Level = Literal["tile", "region", "slide", "case"]
Method = Literal["mosaic", "mean", "votes"]


@dataclass(frozen=True, slots=True)
class Ask:
    """One question.

    Attributes:
        query: what is shown; its slide or tile must be there for whoever asks.
        level: what is to be found.
        k: hits on a page.
        offset: hits before it.
        conditions: those that hits must fulfil.
        exclude: `none`, `slide`, `case`, or `group:COLUMN`: what of the query's own is left out.
        min_score: hits below it are left out.
        spread: at most so many hits per value of a column: (column, most).
        model: name or id of the model to compare by; None is the one that answers now.
        query_mpp: µm per pixel of a picture; None is the atlas's.
        exact: compare with every vector, past any index.
        method: how slides and cases are compared; None is the usual.
        alpha: have it told whether the best match is a good one; see `Calibrating`.
        site_columns: have it told how much of the ranking these explain.
    """

    query: Query
    level: Level = "tile"
    k: int = 10
    offset: int = 0
    conditions: tuple[Condition, ...] = ()
    exclude: str = "none"
    min_score: float | None = None
    spread: tuple[str, int] | None = None
    model: str | None = None
    query_mpp: float | None = None
    exact: bool = False
    method: Method | None = None
    alpha: float | None = None
    site_columns: tuple[str, ...] = ()

    @property
    def depth(self) -> int:
        """Hits to find: the page, and all before it."""
        return self.offset + self.k


@dataclass(frozen=True, slots=True)
class EmbedWanted:
    """Pictures whose vectors are wanted.

    Attributes:
        images: the pictures.
        query_mpp: their µm per pixel; None is the atlas's.
        model: name or id of the model; None is the one that answers now.
    """

    images: tuple[ImageQuery, ...]
    query_mpp: float | None = None
    model: str | None = None
