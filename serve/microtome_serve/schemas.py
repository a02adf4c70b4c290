"""What the server answers: the JSON of its responses."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from microtome_serve.asking import Level, Method


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


class TileMatch(BaseModel):
    """Two tiles that look alike."""

    query_tile: TileHit | None = Field(description="Of the query, where it is of the atlas.")
    tile: TileHit
    score: float = Field(description="Cosine similarity, −1 to 1.")


class SlideHit(BaseModel):
    """A slide or a case that was found."""

    slide_id: str | None = Field(description="null for a case.")
    case_id: str | None
    slides: list[str] = Field(description="The slide, or those of the case.")
    score: float = Field(description="More is better; the scale is the method's.")
    evidence: list[TileMatch] = Field(description="Tiles that match, best first.")
    metadata: dict[str, Any] = Field(description="The manifest's columns, where slides agree.")


class RegionHit(BaseModel):
    """A region that was found: the query's outline, mirrored if so, turned, and moved."""

    slide_id: str
    case_id: str | None
    polygon: list[tuple[float, float]] = Field(description="Corners, level-0 px.")
    score: float = Field(description="Similarity times coverage.")
    similarity: float = Field(description="Mean cosine of its tiles, −1 to 1.")
    coverage: float = Field(description="Share of the query's tissue for which there are tiles.")
    angle_deg: float = Field(description="Clockwise, 0 to 360.")
    flipped: bool
    tiles: list[TileHit]
    metadata: dict[str, Any] = Field(description="The manifest's columns; dates as ISO 8601 text.")


class Verdict(BaseModel):
    """Whether the best match is a good one, told by what tiles of the atlas find among others."""

    no_good_match: bool | None = Field(description="null where it can't be told.")
    score: float = Field(description="Of the best match.")
    p_value: float = Field(description="Share of tiles due a match that score as little.")
    threshold: float | None = Field(
        description="A score below it is no good match; null where too few tiles tell."
    )
    alpha: float
    tiles: int = Field(description="How many scores that rests on.")
    parts: int = Field(description="Of the query, of which the best scores so.")


class SiteBias(BaseModel):
    """How much of the ranking the query's own site explains; of hits of other cases."""

    column: str
    value: Any = Field(description="What it says of the query's slide.")
    hits: int = Field(description="Of those whose site is known.")
    same: int = Field(description="Of those that are of the query's site.")
    expected: float = Field(description="Share of them by chance.")
    observed: float = Field(description="Share of them that was found.")
    excess: float | None = Field(
        description="(observed − expected) / (1 − expected); null where that says nothing."
    )


class Answer(BaseModel):
    """What was found for one query."""

    level: Level
    model_id: str = Field(description="Whose vectors were compared.")
    model_name: str
    method: Method | None = Field(description="How slides or cases were compared.")
    tiles_version: int = Field(description="The version of the atlas that was searched.")
    coverage: float = Field(description="Share of what was searched that has such a vector.")
    notes: list[str] = Field(description="What a reader of the hits should know.")
    verdict: Verdict | None = Field(
        description="Where `alpha` was said; null where nothing was judged, and notes say why."
    )
    site_bias: list[SiteBias] = Field(
        description="Of `site_columns` that tell the query's site; hits on pages before count."
    )
    remarks: list[str] = Field(description="How far to trust the hits: that in words.")
    hits: list[TileHit] | list[RegionHit] | list[SlideHit] = Field(
        description="Best first, of the level's kind."
    )
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
