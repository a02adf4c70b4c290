"""What a search for regions answers, and how it is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from microtome.config import check_fraction, check_positive, check_whole
from microtome.search.exclusion import check_exclude
from microtome.search.finder import Path
from microtome.search.polygon_query import PolygonQuery
from microtome.search.query import ImageQuery, RegionQuery
from microtome.search.result import Hit, check_min_score
from microtome.search.spread import Spread
from microtome.slides.slide import Pixels, Scalar

AskedRegion = ImageQuery | RegionQuery | PolygonQuery
Corners = tuple[tuple[float, float], ...]

MOST_REGIONS: Final = 200
CLASSIFICATION: Final = {"name": "Microtome hit", "color": [142, 42, 107]}


@dataclass(frozen=True, slots=True)
class RegionSettings:
    """How regions are searched.

    Attributes:
        k: how many hits.
        where: condition over the columns of `tiles`, in Lance's SQL: other tiles aren't there.
        exclude: leave out the query's own slide, its `case`, or its `group:COLUMN`; see
            `exclusion`.
        model_id: whose vectors to compare; the encoder's, if said.
        query_mpp: µm per pixel of an image, else taken to have the atlas's; of a drawn region,
            only where its slide doesn't say.
        exact: compare with every vector, even where there is an index.
        effort: how much of the query is embedded and how far an index is looked into, times the
            usual.
        most_overlap: intersection over union that two hits may have.
        spread: how many hits may come from one slide, case or site.
        min_score: a hit scores at least this.
    """

    k: int = 10
    where: str | None = None
    exclude: str = "none"
    model_id: str | None = None
    query_mpp: float | None = None
    exact: bool = False
    effort: float = 1.0
    most_overlap: float = 0.3
    spread: Spread | None = None
    min_score: float | None = None

    def __post_init__(self) -> None:
        check_whole("k", self.k, least=1, most=MOST_REGIONS)
        check_exclude(self.exclude)
        check_positive("effort", self.effort, most=1000.0)
        check_fraction("most_overlap", self.most_overlap)
        check_min_score(self.min_score)
        if self.query_mpp is not None:
            check_positive("query_mpp", self.query_mpp, most=100.0)


@dataclass(frozen=True, slots=True)
class RegionHit:
    """A region that was found: the query's outline, mirrored if so, turned, and moved.

    Attributes:
        slide_id: its slide.
        case_id: its case, where known.
        polygon: its corners x, y in level-0 px, in the order of the query's.
        score: similarity times coverage, see `region_check`; 1 where all is the very same tissue.
        similarity: mean cosine of its tiles and the query, −1 to 1.
        coverage: share of the query's tissue for which there are tiles, 0 to 1.
        angle_deg: by which the query was turned, clockwise as one sees it, 0 to 360.
        flipped: whether it was mirrored left to right before that.
        tiles: those that were compared, row by row, each with its own cosine as score.
        metadata: the manifest's columns; dates as ISO 8601 text.
    """

    slide_id: str
    case_id: str | None
    polygon: Corners
    score: float
    similarity: float
    coverage: float
    angle_deg: float
    flipped: bool
    tiles: tuple[Hit, ...]
    metadata: Mapping[str, Scalar] = field(default_factory=dict)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x, y, width and height of its bounding box, level-0 px."""
        xs, ys = zip(*self.polygon, strict=True)
        x, y = round(min(xs)), round(min(ys))
        return x, y, round(max(xs)) - x, round(max(ys)) - y

    def to_json(self) -> dict[str, Any]:
        """The attributes by name, ready for `json.dumps`."""
        lists = {"polygon": [list(corner) for corner in self.polygon]}
        return asdict(self) | lists | {"tiles": [tile.to_json() for tile in self.tiles]}

    def to_feature(self, rank: int) -> dict[str, Any]:
        """A GeoJSON Feature, its coordinates level-0 px, as QuPath reads and writes annotations."""
        ring = [list(corner) for corner in (*self.polygon, self.polygon[0])]
        return {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {
                "objectType": "annotation",
                "name": f"{rank}: {self.score:.3f}",
                "classification": CLASSIFICATION,
                "measurements": {"score": self.score, "rank": rank},
                "rank": rank,
                "score": self.score,
                "similarity": self.similarity,
                "coverage": self.coverage,
                "slide_id": self.slide_id,
                "case_id": self.case_id,
                "angle_deg": self.angle_deg,
                "flipped": self.flipped,
            },
        }


@dataclass(frozen=True, slots=True)
class RegionResult:
    """Regions, best first; equal scores by slide_id and place.

    Attributes:
        hits: at most k, none overlapping another by more than was asked.
        query: what was asked.
        settings: how it was searched.
        model_id: whose vectors were compared.
        model_name: what that model is called.
        path: `index` where an index named the first candidates; `exact` where every vector was
            compared for that.
        tiles_version: the version of `tiles` that was searched.
        coverage: share of the tiles that were searched which have a vector of this model.
        embedded: how many pictures of the query the model was given.
        notes: what a reader of the hits should know, one sentence each.
        pixels: the query's picture, a few hundred px wide.
    """

    hits: tuple[RegionHit, ...]
    query: AskedRegion
    settings: RegionSettings
    model_id: str
    model_name: str
    path: Path
    tiles_version: int
    coverage: float
    embedded: int
    notes: tuple[str, ...] = ()
    pixels: Pixels | None = field(default=None, repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """What `microtome search --json` prints."""
        return {
            "query": self.query.text,
            "level": "region",
            "model_id": self.model_id,
            "model_name": self.model_name,
            "path": self.path,
            "tiles_version": self.tiles_version,
            "coverage": self.coverage,
            "embedded": self.embedded,
            "notes": list(self.notes),
            "hits": [hit.to_json() for hit in self.hits],
        }

    def to_geojson(self, slide_id: str | None = None) -> dict[str, Any]:
        """A FeatureCollection, of all hits or of one slide's: QuPath opens them slide by slide."""
        return feature_collection(self.hits, slide_id)

    def rows(self) -> list[dict[str, Any]]:
        """One row per hit, for a table."""
        return [_row(rank, hit) for rank, hit in enumerate(self.hits, start=1)]


def feature_collection(hits: Iterable[RegionHit], slide_id: str | None = None) -> dict[str, Any]:
    """GeoJSON of regions, best first, or of those of one slide; each keeps its rank."""
    numbered = enumerate(hits, start=1)
    wanted = ((rank, hit) for rank, hit in numbered if slide_id in {None, hit.slide_id})
    features = [hit.to_feature(rank) for rank, hit in wanted]
    return {"type": "FeatureCollection", "features": features}


def _row(rank: int, hit: RegionHit) -> dict[str, Any]:
    x, y, width_px, height_px = hit.box
    return {
        "rank": rank,
        "score": f"{hit.score:.3f}",
        "slide_id": hit.slide_id,
        "case_id": hit.case_id,
        "x": x,
        "y": y,
        "width_px": width_px,
        "height_px": height_px,
        "angle_deg": round(hit.angle_deg),
        "flipped": hit.flipped,
        "tiles": len(hit.tiles),
    }
