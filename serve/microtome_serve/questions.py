"""What a search is asked: the JSON of its requests, with examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints

from microtome.search.polygon_query import PolygonQuery
from microtome.search.query import CaseQuery, Query, RegionQuery, SlideQuery, TileQuery, VectorQuery
from microtome_serve.asking import Ask, Level, Method
from microtome_serve.filters import Condition

MOST_VECTORS: Final = 64
MOST_COLUMNS: Final = 8
MOST_PX: Final = 2**31 - 1

Id = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
Px = Annotated[int, Field(ge=0, le=MOST_PX)]
Side = Annotated[int, Field(ge=1, le=MOST_PX)]

USUAL: Final[Mapping[type, Level]] = {
    PolygonQuery: "region",
    SlideQuery: "slide",
    CaseQuery: "case",
}
"""What is found by a query of which nobody says what."""


class Strict(BaseModel):
    """A wrong name is an error, not passed over."""

    model_config = ConfigDict(extra="forbid")


class ByTile(Strict):
    """A tile of the atlas."""

    kind: Literal["tile"]
    tile_id: Annotated[str, StringConstraints(pattern="^[0-9a-fA-F]{32}$")]

    def query(self) -> Query:
        """As the library asks."""
        return TileQuery(self.tile_id.lower())


class ByRegion(Strict):
    """A rectangle of a slide of the atlas."""

    kind: Literal["region"]
    slide_id: Id
    x: Px = Field(description="Left edge, level-0 px.")
    y: Px = Field(description="Top edge, level-0 px.")
    width_px: Side = Field(description="Level-0 px.")
    height_px: Side = Field(description="Level-0 px.")

    def query(self) -> Query:
        """As the library asks."""
        return RegionQuery(self.slide_id, self.x, self.y, self.width_px, self.height_px)


class ByPolygon(Strict):
    """A drawn region of a slide of the atlas."""

    kind: Literal["polygon"]
    slide_id: Id
    corners: Annotated[
        list[tuple[Annotated[FiniteFloat, Field(ge=0, le=MOST_PX)], FiniteFloat]],
        Field(min_length=3, max_length=1000, description="x, y of each in order, level-0 px."),
    ]

    def query(self) -> Query:
        """As the library asks.

        Raises:
            QueryUnreadable: the outline crosses itself, or has no area.
        """
        return PolygonQuery(self.slide_id, tuple(self.corners))


class BySlide(Strict):
    """A whole slide of the atlas."""

    kind: Literal["slide"]
    slide_id: Id

    def query(self) -> Query:
        """As the library asks."""
        return SlideQuery(self.slide_id)


class ByCase(Strict):
    """All slides of a case of the atlas."""

    kind: Literal["case"]
    case_id: Id

    def query(self) -> Query:
        """As the library asks."""
        return CaseQuery(self.case_id)


class ByVector(Strict):
    """Vectors made elsewhere with the same model, e.g. by `/v1/embed`.

    Of several, a tile's score is its cosine with the one it is nearest to.
    """

    kind: Literal["vector"]
    vectors: Annotated[
        list[Annotated[list[FiniteFloat], Field(min_length=1, max_length=65536)]],
        Field(min_length=1, max_length=MOST_VECTORS),
    ]

    def query(self) -> Query:
        """As the library asks.

        Raises:
            SettingError: they are of several lengths, or of length 0.
        """
        width = len(self.vectors[0])
        if any(len(vector) != width for vector in self.vectors):
            return VectorQuery(np.empty((len(self.vectors), 0), np.float32))
        return VectorQuery(np.array(self.vectors, dtype=np.float32))


AnyQuery = Annotated[
    ByTile | ByRegion | ByPolygon | BySlide | ByCase | ByVector, Field(discriminator="kind")
]


class SpreadBy(Strict):
    """At most so many hits that have the same value in a column."""

    field: Id = Field(examples=["case_id"])
    most: int = Field(default=1, ge=1, le=1000)


class SearchOptions(Strict):
    """What is to be found."""

    level: Level | None = Field(
        default=None,
        description="What to find. Without it: regions by polygon, slides by slide, cases by case, "
        "else tiles.",
    )
    k: int = Field(default=10, ge=1, le=100_000, description="Hits on a page.")
    offset: int = Field(
        default=0,
        ge=0,
        le=100_000,
        description="Hits before it. A page belongs to the others of the same `tiles_version`.",
    )
    filter: list[Condition] = Field(
        default=[], description="Conditions that all must hold; an empty value fulfils none."
    )
    exclude: Annotated[str, StringConstraints(pattern="^(none|slide|case|group:.{1,200})$")] = (
        Field(default="none", description="What of the query's own is left out.")
    )
    min_score: FiniteFloat | None = Field(
        default=None,
        ge=-1,
        le=1,
        description="Least score of a hit; not of slides and cases that are compared by votes.",
    )
    spread: SpreadBy | None = Field(
        default=None,
        description="At most so many hits that have the same in a column: tiles and regions in "
        "slide_id, case_id or another, slides in case_id or another, cases in another.",
    )
    model: Id | None = Field(
        default=None, description="Name or id of the model to compare by, if it isn't the usual."
    )
    query_mpp: FiniteFloat | None = Field(
        default=None, gt=0, le=100, description="µm per pixel of a picture; else the atlas's."
    )
    exact: bool = Field(default=False, description="Compare with every vector, past any index.")
    method: Method | None = Field(
        default=None, description="How slides and cases are compared, if not in the usual way."
    )
    alpha: FiniteFloat | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Have it told whether the best tile is a good match: of queries that have one, "
        "at most this share is said to have none. Not told beside a filter, or for a token with "
        "rows.",
        examples=[0.05],
    )
    site_columns: list[Id] = Field(
        default=[],
        max_length=MOST_COLUMNS,
        description="Have it told how much of the ranking of tiles these columns explain, which "
        "say where, or by what, slides were scanned.",
        examples=[["site"]],
    )

    def ask(self, query: Query) -> Ask:
        """The question for the graph."""
        return Ask(
            query,
            level=self.level or USUAL.get(type(query), "tile"),
            k=self.k,
            offset=self.offset,
            conditions=tuple(self.filter),
            exclude=self.exclude,
            min_score=self.min_score,
            spread=(self.spread.field, self.spread.most) if self.spread else None,
            model=self.model,
            query_mpp=self.query_mpp,
            exact=self.exact,
            method=self.method,
            alpha=self.alpha,
            site_columns=tuple(dict.fromkeys(self.site_columns)),
        )


class SearchRequest(SearchOptions):
    """One or several queries, each asked with the same options."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "queries": [{"kind": "tile", "tile_id": "0f" * 16}],
                    "k": 5,
                    "exclude": "case",
                    "filter": [{"field": "site", "operator": "=", "value": "north"}],
                },
                {
                    "queries": [{"kind": "tile", "tile_id": "0f" * 16}],
                    "exclude": "case",
                    "alpha": 0.05,
                    "site_columns": ["site"],
                },
                {
                    "queries": [
                        {
                            "kind": "region",
                            "slide_id": "a.svs",
                            "x": 10240,
                            "y": 8192,
                            "width_px": 448,
                            "height_px": 448,
                        }
                    ],
                    "spread": {"field": "case_id", "most": 1},
                },
                {
                    "queries": [{"kind": "slide", "slide_id": "a.svs"}],
                    "level": "case",
                    "spread": {"field": "site", "most": 2},
                },
            ]
        },
    )

    queries: list[AnyQuery] = Field(min_length=1)
