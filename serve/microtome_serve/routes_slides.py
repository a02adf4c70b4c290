"""Slides: which there are, and what is known of one.

A slide's id may hold slashes: it is the rest of the path, with `/` or `%2F` alike, up to one of the
fixed ends (`/thumbnail`, `/deepzoom.dzi`, …). Where an id itself ends so, list it with a filter.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from microtome_serve.access import Reader
from microtome_serve.filters import Condition
from microtome_serve.graph import Served
from microtome_serve.problems import responses
from microtome_serve.visible_rows import MOST_ON_A_PAGE, PageWanted

_CONDITIONS: Final = TypeAdapter(list[Condition])
_FILTER: Final = {
    "name": "filter",
    "in": "query",
    "description": "Conditions that all must hold, as JSON; see `POST /v1/search`.",
    "content": {
        "application/json": {
            "schema": {"type": "array", "items": {"$ref": "#/components/schemas/Condition"}},
            "example": [{"field": "site", "operator": "=", "value": "north"}],
        }
    },
}
"""FastAPI has no word for a parameter that is JSON."""

router = APIRouter(prefix="/v1", tags=["slides"])

SlideId = Annotated[
    str,
    Path(description="The slide's id; slashes in it may stand as they are.", examples=["a.svs"]),
]
TileId = Annotated[str, Path(description="32 hex digits, as of a hit.", examples=["0f" * 16])]


class SlideFacts(BaseModel):
    """A slide in the atlas."""

    model_config = ConfigDict(extra="forbid")

    slide_id: str
    case_id: str | None = Field(description="Patient or case, where known.")
    size_bytes: int | None = Field(description="Of all its files.")
    format: str | None = Field(description="File format.")
    vendor: str | None = Field(description="Scanner vendor as the file names it.")
    width_px: int = Field(description="At level 0.")
    height_px: int = Field(description="At level 0.")
    levels: int | None = Field(description="Number of pyramid levels.")
    mpp: float | None = Field(description="µm per level-0 pixel.")
    mpp_source: str | None = Field(description="slide, manifest, objective or assumed.")
    objective: float | None = Field(description="Magnification, where known.")
    tissue_mm2: float | None = Field(description="Area of the tissue, mm².")
    tiles: int | None = Field(description="Tiles in the atlas.")
    properties: dict[str, Any] = Field(description="Further facts of the scanner.")
    metadata: dict[str, Any] = Field(description="The manifest's columns; dates as ISO 8601 text.")


class SlidePage(BaseModel):
    """Some of the slides, by id."""

    slides: list[SlideFacts]
    total: int = Field(description="Slides on all pages.")
    next: str | None = Field(description="`cursor` of the next page; null on the last.")


class TileFacts(BaseModel):
    """A tile in the atlas."""

    tile_id: str
    slide_id: str
    case_id: str | None
    x: int = Field(description="Left edge, level-0 px.")
    y: int = Field(description="Top edge, level-0 px.")
    size_px: int = Field(description="Side, level-0 px.")
    tissue: float | None = Field(description="Fraction that is tissue.")
    sharpness: float | None = Field(description="Focus measure; 0 is flat.")
    metadata: dict[str, Any] = Field(description="The manifest's columns; dates as ISO 8601 text.")


@router.get(
    "/slides",
    summary="The slides there are",
    responses=responses(),
    openapi_extra={"parameters": [_FILTER]},
)
async def list_slides(
    access: Reader,
    graph: Served,
    limit: Annotated[int, Query(ge=1, le=MOST_ON_A_PAGE)] = 100,
    cursor: Annotated[str | None, Query(description="`next` of the page before.")] = None,
    conditions: Annotated[str | None, Query(alias="filter", include_in_schema=False)] = None,
) -> SlidePage:
    """Slides by id, a page at a time."""
    wanted = PageWanted(limit, cursor, _conditions(conditions))
    page = await graph.pictures.slides.remote(access, wanted)
    return SlidePage(slides=page.slides, total=page.total, next=page.next)


@router.get("/tiles/{tile_id}", summary="One tile", responses=responses(404))
async def tile(access: Reader, graph: Served, tile_id: TileId) -> TileFacts:
    """What is known of a tile."""
    return TileFacts(**await graph.pictures.tile.remote(access, tile_id))


@router.get("/slides/{slide_id:path}", summary="One slide", responses=responses(404))
async def slide(access: Reader, graph: Served, slide_id: SlideId) -> SlideFacts:
    """What is known of a slide."""
    return SlideFacts(**await graph.pictures.slide.remote(access, slide_id))


def _conditions(text: str | None) -> tuple[Condition, ...]:
    try:
        return tuple(_CONDITIONS.validate_json(text)) if text else ()
    except ValidationError as error:
        raise RequestValidationError(
            [one | {"loc": ("query", "filter", *one["loc"])} for one in error.errors()]
        ) from None
