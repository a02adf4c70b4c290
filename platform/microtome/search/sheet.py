"""What a gallery shows, before it is drawn."""

from __future__ import annotations

from dataclasses import dataclass

from microtome.search.pictures import Picture


@dataclass(frozen=True, slots=True)
class Card:
    """One hit, of any level, in words and as a picture.

    Attributes:
        rank: 1 is the best.
        score: as text.
        slide: slide_id; of a case, its case_id.
        place: where on the slide, level-0 px.
        region: the same as a query that can be asked.
        ask: what to ask with, to go on from here: a tile id, for instance.
        facts: names and values of what else is known.
        picture: its pixels, or why there are none.
    """

    rank: int
    score: str
    slide: str
    place: str
    region: str
    ask: str
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
        scale: what a score is.
    """

    query: str
    picture: Picture
    facts: tuple[str, ...]
    notes: tuple[str, ...]
    cards: tuple[Card, ...]
    scale: str = "cosine similarity"
