"""What a gallery shows, before it is drawn."""

from __future__ import annotations

from dataclasses import dataclass

from microtome.search.pictures import Picture


@dataclass(frozen=True, slots=True)
class Card:
    """One hit in words and as a picture.

    Attributes:
        rank: 1 is the best.
        score: cosine, as text.
        slide: slide_id.
        place: upper left corner, level-0 px.
        region: the same as a query that can be asked.
        tile_id: likewise.
        facts: names and values of what else is known.
        picture: its pixels, or why there are none.
    """

    rank: int
    score: str
    slide: str
    place: str
    region: str
    tile_id: str
    facts: tuple[tuple[str, str], ...]
    picture: Picture


@dataclass(frozen=True, slots=True)
class Sheet:
    """A query and its hits, best first.

    Attributes:
        query: as its user wrote it.
        picture: of the query.
        facts: lines on how it was searched.
        notes: what a reader should know.
        cards: one per hit.
    """

    query: str
    picture: Picture
    facts: tuple[str, ...]
    notes: tuple[str, ...]
    cards: tuple[Card, ...]
