"""What a search answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from microtome.config import check_positive, check_whole
from microtome.errors import SettingError
from microtome.search.calibration import Calibrating, Verdict
from microtome.search.exclusion import check_exclude
from microtome.search.finder import Path
from microtome.search.query import Query
from microtome.search.site_bias import SiteBias
from microtome.search.spread import Spread
from microtome.slides.slide import Pixels, Scalar


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """How a search is done.

    Attributes:
        k: how many hits; more than there are tiles gives all.
        where: condition over the columns of `tiles`, in Lance's SQL, applied before ranking.
        exclude: leave out tiles of the query's own slide, of its whole `case`, or, as
            `group:COLUMN`, those that have the same in a manifest column; see `exclusion`.
        model_id: whose vectors to compare; may be left out where it can be only one.
        query_mpp: µm per pixel of an image, else taken to have the atlas's; of a region, only
            where its slide doesn't say.
        exact: compare with every vector, even where there is an index.
        effort: how far to look in an index, times the usual: more finds more of the nearest.
        spread: how many hits may come from one slide, case or site.
        min_score: a hit scores at least this.
        calibrating: have it told whether the best match is a good one, and how; see `calibration`.
        site_columns: have it told how much of the ranking these explain; see `site_bias`.
    """

    k: int = 10
    where: str | None = None
    exclude: str = "none"
    model_id: str | None = None
    query_mpp: float | None = None
    exact: bool = False
    effort: float = 1.0
    spread: Spread | None = None
    min_score: float | None = None
    calibrating: Calibrating | None = None
    site_columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_whole("k", self.k, least=1)
        check_exclude(self.exclude)
        check_min_score(self.min_score)
        check_positive("effort", self.effort, most=1000.0)
        if self.query_mpp is not None:
            check_positive("query_mpp", self.query_mpp, most=100.0)


def check_min_score(least: float | None) -> None:
    """Raise `SettingError` unless it is a cosine, or nothing."""
    if least is not None and not -1 <= least <= 1:
        raise SettingError(f"min_score must be between -1 and 1, as cosines are, not {least!r}")


@dataclass(frozen=True, slots=True)
class Hit:
    """A tile that was found.

    Attributes:
        tile_id: 32 hex digits.
        slide_id: its slide.
        case_id: its case, where known.
        x: left edge, level-0 px.
        y: top edge, level-0 px.
        size_px: side, level-0 px.
        score: cosine similarity with the query, −1 to 1.
        tissue: fraction of the tile that is tissue.
        sharpness: focus measure, see `tiles.quality`.
        metadata: the manifest's columns; dates as ISO 8601 text.
    """

    tile_id: str
    slide_id: str
    case_id: str | None
    x: int
    y: int
    size_px: int
    score: float
    tissue: float | None = None
    sharpness: float | None = None
    metadata: Mapping[str, Scalar] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The attributes by name, ready for `json.dumps`."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Hits, best first; equal scores by tile_id.

    Attributes:
        hits: at most k.
        query: what was asked.
        settings: how it was searched.
        model_id: whose vectors were compared.
        model_name: what that model is called.
        path: `index` where candidates came from an index (their scores are exact all the same),
            `exact` where every vector was compared.
        tiles_version: the version of `tiles` that was searched.
        coverage: share of the tiles that were searched (those that pass the filter and the
            exclusion) which have a vector of this model; 1 where none passes.
        notes: what a reader of the hits should know, one sentence each.
        verdict: how good the best match is; None where that wasn't asked, or can't be told.
        site_bias: how much of the ranking each of the asked columns explains, where that is known.
        tile: the query's own tile, with score 1, where it was asked by tile id.
        pixels: the query's picture at the atlas's mpp, where it was asked by image or region.
    """

    hits: tuple[Hit, ...]
    query: Query
    settings: SearchSettings
    model_id: str
    model_name: str
    path: Path
    tiles_version: int
    coverage: float
    notes: tuple[str, ...] = ()
    verdict: Verdict | None = None
    site_bias: tuple[SiteBias, ...] = ()
    tile: Hit | None = None
    pixels: Pixels | None = field(default=None, repr=False, compare=False)

    @property
    def threshold(self) -> float | None:
        """The score below which the best match isn't a good one, where that is known."""
        return self.verdict.threshold if self.verdict else None

    @property
    def no_good_match(self) -> bool | None:
        """Whether nothing found looks alike; None where that isn't known."""
        return self.verdict.no_good_match if self.verdict else None

    @property
    def remarks(self) -> tuple[str, ...]:
        """How far the hits can be trusted, in words, beside what is noted."""
        good = (str(self.verdict),) if self.no_good_match is False else ()
        return (*good, *map(str, self.site_bias))

    def rows(self) -> list[dict[str, Any]]:
        """One row per hit, for a table."""
        case = ("case_id",) if any(hit.case_id for hit in self.hits) else ()
        names = ("score", "slide_id", *case, "x", "y", "size_px", "tile_id")
        return [
            {"rank": rank} | {name: getattr(hit, name) for name in names}
            for rank, hit in enumerate(self.hits, start=1)
        ]

    def to_json(self) -> dict[str, Any]:
        """What `microtome search --json` prints."""
        return {
            "query": self.query.text,
            "level": "tile",
            "model_id": self.model_id,
            "model_name": self.model_name,
            "path": self.path,
            "tiles_version": self.tiles_version,
            "coverage": self.coverage,
            "notes": list(self.notes),
            "no_good_match": self.no_good_match,
            "threshold": self.threshold,
            "p_value": self.verdict.p_value if self.verdict else None,
            "verdict": self.verdict.to_json() if self.verdict else None,
            "site_bias": [bias.to_json() for bias in self.site_bias],
            "remarks": list(self.remarks),
            "hits": [hit.to_json() for hit in self.hits],
        }
