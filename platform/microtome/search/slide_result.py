"""What a search for slides or cases answers, and how it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, get_args

from microtome.config import check_choice, check_positive, check_whole
from microtome.errors import SettingError
from microtome.rows import beside
from microtome.search.exclusion import check_exclude
from microtome.search.finder import Path
from microtome.search.query import Query
from microtome.search.result import Hit, check_min_score
from microtome.search.spread import Spread
from microtome.slides.slide import Pixels, Scalar

Level = Literal["slide", "case"]
Method = Literal["mosaic", "mean", "votes"]

_ONCE: Final = {"slide": ("slide_id",), "case": ("slide_id", "case_id")}
"""Columns that no two hits have in common."""


@dataclass(frozen=True, slots=True)
class SlideSettings:
    """How slides or cases are searched.

    Attributes:
        k: how many hits; more than there are gives all.
        level: what is found: slides, or cases, whose slides are taken together.
        method: how they are compared, see `slide_methods`; None takes the mosaics for a slide or a
            case, and votes for anything smaller.
        where: condition over the columns of `tiles`, in Lance's SQL: other tiles don't count, and
            slides without any that do aren't found.
        exclude: leave out the query's own slide, its `case`, or its `group:COLUMN`; see
            `exclusion`. Of a case, its own slides in any case.
        model_id: whose vectors to compare; may be left out where it can be only one.
        query_mpp: as in `SearchSettings`.
        exact: compare with every slide.
        effort: how far to look for candidates, times the usual.
        evidence: how many pairs of tiles to show for each hit.
        spread: how many hits may have the same in a column: slides in `case_id` or a manifest
            column, cases in a manifest column.
        min_score: a hit scores at least this; not by votes, which are no cosines.
        visible: condition as `where`: other tiles don't exist for who asks, also in the query.
    """

    k: int = 10
    level: Level = "slide"
    method: Method | None = None
    where: str | None = None
    exclude: str = "none"
    model_id: str | None = None
    query_mpp: float | None = None
    exact: bool = False
    effort: float = 1.0
    evidence: int = 4
    spread: Spread | None = None
    min_score: float | None = None
    visible: str | None = None

    def __post_init__(self) -> None:
        check_whole("k", self.k, least=1)
        check_choice("level", self.level, get_args(Level))
        if self.method is not None:
            check_choice("method", self.method, get_args(Method))
        check_exclude(self.exclude)
        check_positive("effort", self.effort, most=1000.0)
        check_whole("evidence", self.evidence, least=0)
        check_min_score(self.min_score)
        if self.spread and self.spread.column in _ONCE[self.level]:
            raise SettingError(
                f"spread over {self.spread.column} says nothing where a {self.level} is looked for",
                remedy="Each is found once; spread over a column that several have in common.",
            )
        if self.query_mpp is not None:
            check_positive("query_mpp", self.query_mpp, most=100.0)


@dataclass(frozen=True, slots=True)
class TileMatch:
    """Two tiles that look alike: why a slide was found.

    Attributes:
        query_tile: of the query, with score 1; None where it isn't a tile of the atlas.
        tile: of the slide that was found.
        score: their cosine similarity, −1 to 1.
    """

    query_tile: Hit | None
    tile: Hit
    score: float

    def to_json(self) -> dict[str, Any]:
        """The attributes by name, ready for `json.dumps`."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class SlideHit:
    """A slide or a case that was found.

    Attributes:
        slide_id: the slide; None for a case.
        case_id: the case, where known.
        slides: the slide, or those of the case that were searched, sorted.
        score: how like the query it is; on which scale depends on the method, more is better.
        evidence: tiles that match, best first.
        metadata: the manifest's columns; of a case those in which its slides agree. Dates as
            ISO 8601 text.
    """

    slide_id: str | None
    case_id: str | None
    slides: tuple[str, ...]
    score: float
    evidence: tuple[TileMatch, ...] = ()
    metadata: Mapping[str, Scalar] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The attributes by name, ready for `json.dumps`."""
        return asdict(self) | {"slides": list(self.slides)}


@dataclass(frozen=True, slots=True)
class SlideResult:
    """Slides or cases, best first; equal scores by their ids.

    Attributes:
        hits: at most k.
        query: what was asked.
        settings: how it was searched.
        method: by which they were compared.
        model_id: whose vectors were compared.
        model_name: what that model is called.
        path: `index` where candidates were looked up, and only they were compared; `exact` where
            every slide was.
        tiles_version: the version of `tiles` that was searched.
        coverage: share of the slides with tiles that pass the filter, which were searched; 1 where
            there are none.
        notes: what a reader of the hits should know, one sentence each.
        tile: the query's own tile, where it was asked by tile id.
        pixels: the query's picture, where it was asked by image or region.
    """

    hits: tuple[SlideHit, ...]
    query: Query
    settings: SlideSettings
    method: Method
    model_id: str
    model_name: str
    path: Path
    tiles_version: int
    coverage: float
    notes: tuple[str, ...] = ()
    tile: Hit | None = None
    pixels: Pixels | None = field(default=None, repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """What `microtome search --json` prints."""
        return {
            "query": self.query.text,
            "level": self.settings.level,
            "method": self.method,
            "model_id": self.model_id,
            "model_name": self.model_name,
            "path": self.path,
            "tiles_version": self.tiles_version,
            "coverage": self.coverage,
            "notes": list(self.notes),
            "hits": [hit.to_json() for hit in self.hits],
        }

    def rows(self) -> list[dict[str, Any]]:
        """One row per hit, for a table."""
        return [_row(rank, hit, self.settings.level) for rank, hit in enumerate(self.hits, start=1)]


def _row(rank: int, hit: SlideHit, level: str) -> dict[str, Any]:
    own: dict[str, Any] = {"rank": rank, "score": f"{hit.score:.3f}", "case_id": hit.case_id}
    own |= {"slide_id": hit.slide_id} if level == "slide" else {"slides": ", ".join(hit.slides)}
    last = {"evidence": _shown(hit.evidence[0]) if hit.evidence else None}
    return own | beside({*own, *last}, hit.metadata) | last


def _shown(match: TileMatch) -> str:
    """A pair of tiles, as queries that can be asked."""
    tiles = (match.query_tile, match.tile)
    places = [f"{t.slide_id}#{t.x},{t.y},{t.size_px},{t.size_px}" for t in tiles if t]
    return " ~ ".join(places)
