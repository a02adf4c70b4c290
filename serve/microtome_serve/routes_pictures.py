"""Pictures: thumbnails, tiles, and slides as Deep Zoom images.

A picture never changes under its address as long as its slide doesn't, so a client may keep it for
minutes, and ask after that whether it still is the same (`If-None-Match`). No proxy may keep any.
"""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Header, Path, Query, Response

from microtome_serve.access import Reader
from microtome_serve.deepzoom import TileAddress
from microtome_serve.graph import Served
from microtome_serve.picture_reading import (
    LEAST_SIDE_PX,
    MEDIA_TYPES,
    MOST_SIDE_PX,
    Encoded,
    Format,
    Look,
)
from microtome_serve.problems import responses
from microtome_serve.routes_slides import SlideId, TileId

router = APIRouter(prefix="/v1", tags=["pictures"])

KEPT: Final = {"Cache-Control": "private, max-age=300", "Vary": "Authorization"}
_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}
_REFUSALS: Final = {304: {"description": "The client's picture is still right."}} | responses(
    404, 410, 502
)
_JPEG: Final = {200: {"content": {"image/jpeg": _BINARY}}} | _REFUSALS
_ANY: Final = {200: {"content": dict.fromkeys(MEDIA_TYPES.values(), _BINARY)}} | _REFUSALS
_DZI: Final = {200: {"content": {"application/xml": {"schema": {"type": "string"}}}}} | responses(
    404
)

Known = Annotated[str, Header(alias="If-None-Match", description="ETags of what is there.")]
Number = Annotated[int, Path(ge=0, lt=2**31)]


def address_of(level: Number, column: Number, row: Number) -> TileAddress:
    """The Deep Zoom tile that a path names."""
    return TileAddress(level, column, row)


@router.get(
    "/slides/{slide_id:path}/thumbnail",
    summary="A small picture of a slide",
    response_class=Response,
    responses=_JPEG,
)
async def thumbnail(
    access: Reader, graph: Served, slide_id: SlideId, known: Known = ""
) -> Response:
    """The slide as a JPEG, 512 px at most; 404 where none was kept."""
    return _answer(await graph.pictures.thumbnail.remote(access, slide_id, known))


@router.get(
    "/tiles/{tile_id}/picture",
    summary="A tile's picture",
    response_class=Response,
    responses=_ANY,
)
async def tile_picture(
    access: Reader,
    graph: Served,
    tile_id: TileId,
    form: Annotated[Format, Query(alias="format", description="Of the file.")] = "jpeg",
    size: Annotated[
        int | None,
        Query(
            ge=LEAST_SIDE_PX,
            le=MOST_SIDE_PX,
            description="Side in pixels; else as the model saw it.",
        ),
    ] = None,
    known: Known = "",
) -> Response:
    """The tile, read from its slide."""
    look = Look(form, size)
    return _answer(await graph.pictures.tile_picture.remote(access, tile_id, look, known))


@router.get(
    "/slides/{slide_id:path}/deepzoom.dzi",
    summary="A slide for a viewer",
    response_class=Response,
    responses=_DZI,
)
async def deepzoom(
    access: Reader,
    graph: Served,
    slide_id: SlideId,
    form: Annotated[Format, Query(alias="format", description="Of its tiles.")] = "jpeg",
) -> Response:
    """The Deep Zoom descriptor that OpenSeadragon and others load first."""
    descriptor = await graph.pictures.descriptor.remote(access, slide_id, form)
    return Response(descriptor, media_type="application/xml", headers=KEPT)


@router.get(
    "/slides/{slide_id:path}/deepzoom_files/{level}/{column}_{row}.{format}",
    summary="A part of a slide for a viewer",
    response_class=Response,
    responses=_ANY,
)
async def deepzoom_tile(
    access: Reader,
    graph: Served,
    slide_id: SlideId,
    address: Annotated[TileAddress, Depends(address_of)],
    form: Annotated[Format, Path(alias="format", description="Of the file.")],
    known: Known = "",
) -> Response:
    """A Deep Zoom tile: 254 px a side, and one more that it shares with each neighbour."""
    looked = graph.pictures.deepzoom_tile.remote(access, slide_id, address, Look(form), known)
    return _answer(await looked)


def _answer(picture: Encoded) -> Response:
    headers = KEPT | {"ETag": picture.etag, "X-Content-Type-Options": "nosniff"}
    if picture.data is None:
        return Response(status_code=304, headers=headers)
    return Response(picture.data, media_type=picture.media_type, headers=headers)
