"""What a search is asked, and what it answers: the JSON of the API, with examples."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints

from microtome.search.query import CaseQuery, Query, RegionQuery, SlideQuery, TileQuery, VectorQuery
from microtome_serve.asking import Ask, Level
from microtome_serve.filters import Condition

MOST_VECTORS = 64
MOST_PX = 2**31 - 1

Id = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
Px = Annotated[int, Field(ge=0, le=MOST_PX)]
Side = Annotated[int, Field(ge=1, le=MOST_PX)]


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


AnyQuery = Annotated[ByTile | ByRegion | BySlide | ByCase | ByVector, Field(discriminator="kind")]


class SpreadBy(Strict):
    """At most so many hits that have the same value in a column."""

    field: Id = Field(examples=["case_id"])
    most: int = Field(default=1, ge=1, le=1000)


class SearchOptions(Strict):
    """What is to be found."""

    level: Level | None = Field(
        default=None,
        description="What to find. Without it: slides by slide, cases by case, else tiles.",
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
    min_score: FiniteFloat | None = Field(default=None, ge=-1, le=1)
    spread: SpreadBy | None = None
    model: Id | None = Field(
        default=None, description="Name or id of the model to compare by, if it isn't the usual."
    )
    query_mpp: FiniteFloat | None = Field(
        default=None, gt=0, le=100, description="µm per pixel of a picture; else the atlas's."
    )
    exact: bool = Field(default=False, description="Compare with every vector, past any index.")

    def ask(self, query: Query) -> Ask:
        """The question for the graph."""
        usual: Level = "tile"
        if isinstance(query, SlideQuery):
            usual = "slide"
        if isinstance(query, CaseQuery):
            usual = "case"
        return Ask(
            query,
            level=self.level or usual,
            k=self.k,
            offset=self.offset,
            conditions=tuple(self.filter),
            exclude=self.exclude,
            min_score=self.min_score,
            spread=(self.spread.field, self.spread.most) if self.spread else None,
            model=self.model,
            query_mpp=self.query_mpp,
            exact=self.exact,
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
                {"queries": [{"kind": "slide", "slide_id": "a.svs"}], "level": "case"},
            ]
        },
    )

    queries: list[AnyQuery] = Field(min_length=1)


class TileHit(BaseModel):
    """A tile that was found."""

    tile_id: str
    slide_id: str
    case_id: str | None
    x: int = Field(description="Left edge, level-0 px.")
    y: int = Field(description="Top edge, level-0 px.")
    size_px: int = Field(description="Side, level-0 px.")
    score: float = Field(description="Cosine similarity, −1 to 1.")
    tissue: float | None = Field(description="Fraction that is tissue.")
    sharpness: float | None = Field(description="Focus measure; 0 is flat.")
    metadata: dict[str, Any] = Field(description="The manifest's columns; dates as ISO 8601 text.")


class Answer(BaseModel):
    """What was found for one query."""

    level: Level
    model_id: str = Field(description="Whose vectors were compared.")
    model_name: str
    tiles_version: int = Field(description="The version of the atlas that was searched.")
    coverage: float = Field(description="Share of what was searched that has such a vector.")
    notes: list[str] = Field(description="What a reader of the hits should know.")
    hits: list[TileHit | dict[str, Any]] = Field(description="Best first.")
    next_offset: int | None = Field(description="`offset` of the next page; null on the last.")


class SearchAnswer(BaseModel):
    """An answer per query, in their order."""

    results: list[Answer]


class EmbeddedImage(BaseModel):
    """One picture's vectors."""

    vectors: list[list[float]] = Field(
        description="Of unit length; one per tile that covers the picture."
    )


class EmbedAnswer(BaseModel):
    """Vectors of pictures, in their order, ready to be asked with."""

    model_id: str
    model_name: str
    dim: int
    images: list[EmbeddedImage]


class Grid(BaseModel):
    """Where tiles lie."""

    mpp: float = Field(description="µm per pixel.")
    tile_px: int
    stride_px: int


class ModelFacts(BaseModel):
    """A model whose vectors the atlas holds."""

    model_id: str
    name: str
    dim: int
    licence: str
    tiles: int = Field(description="Tiles that have a vector of it.")
    coverage: float = Field(description="Their share of all tiles.")


class AtlasFacts(BaseModel):
    """What the atlas holds for whoever asks; what they may not see isn't counted."""

    tiles_version: int
    grid: Grid
    models: list[ModelFacts]
    answers: str = Field(description="Id of the model that answers where none is named.")
    fields: dict[str, str] = Field(description="What can be filtered by, with its type.")
    tiles: int
    slides: int
    cases: int
