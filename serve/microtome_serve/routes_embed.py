"""`POST /v1/embed`: vectors of pictures."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, Form, Response, UploadFile

from microtome_serve.access import Reader
from microtome_serve.asking import EmbedWanted
from microtome_serve.graph import Served
from microtome_serve.guards import Left
from microtome_serve.problems import responses
from microtome_serve.schemas import EmbedAnswer
from microtome_serve.uploads import image_queries

router = APIRouter(prefix="/v1", tags=["search"])


@router.post(
    "/embed",
    summary="Vectors of pictures",
    response_model=EmbedAnswer,
    responses=responses(413),
)
async def embed(
    access: Reader,
    graph: Served,
    left_s: Left,
    images: Annotated[list[UploadFile], File(min_length=1, description="PNG, JPEG, TIFF or WebP.")],
    query_mpp: Annotated[
        float | None, Form(gt=0, le=100, description="µm per pixel; else the atlas's.")
    ] = None,
    model: Annotated[
        str | None, Form(max_length=1000, description="Name or id, if it isn't the usual.")
    ] = None,
) -> Response:
    """Embed pictures as a search would: brought to the atlas's mpp, covered by its tiles."""
    queries = await image_queries(images, graph.settings.limits)
    wanted = EmbedWanted(tuple(queries), query_mpp, model)
    found: bytes = await graph.search.embed.remote(wanted, left_s)
    return Response(found, media_type="application/json")
