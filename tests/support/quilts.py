"""Slides of a few tiles in flat colours, each called by what it shows, and what finds them."""

from __future__ import annotations

from microtome.atlas.atlas import Atlas
from microtome.search.query import Query
from microtome.search.slide_result import SlideResult, SlideSettings
from microtome.search.slide_searcher import SlideSearcher
from support.coloured_atlas import Quilt

NAMES = {"p": "pink", "u": "purple", "t": "tan"}
METHODS = ("mosaic", "mean", "votes")


def quilt(slide_id: str, colours: str, case_id: str | None = None, organ: str = "skin") -> Quilt:
    """A slide of one row of tiles, whose colours are given by letters."""
    return Quilt(slide_id, (tuple(NAMES[letter] for letter in colours),), case_id, organ, None)


QUILTS = (
    quilt("mix", "ppuu", "case 1"),
    quilt("same", "uppu", "case 2"),
    quilt("large", "pppuuuttttttttttttttt", "case 3", "liver"),
    quilt("tans", "tttt", "case 1"),
    quilt("pinks", "pppp", "case 2", "liver"),
    quilt("lone", "t"),
)


def search(searcher: SlideSearcher, query: Query, **settings: object) -> SlideResult:
    """Search with settings by name."""
    return searcher.search(query, SlideSettings(**settings))


def names(result: SlideResult) -> list[str | None]:
    """The slides or cases that were found, best first."""
    return [hit.slide_id or hit.case_id for hit in result.hits]


def scores(result: SlideResult) -> dict[str | None, float]:
    """Their scores."""
    return {hit.slide_id or hit.case_id: hit.score for hit in result.hits}


def model_of(atlas: Atlas) -> str:
    """The atlas's only model."""
    (model_id,) = atlas.models
    return model_id
