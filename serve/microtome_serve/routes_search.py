"""`POST /v1/search`: what looks alike; `POST /v1/search/image`: what looks like a picture."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, Form, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from microtome.errors import RequestTooLarge, SettingError
from microtome_serve.access import Access, Reader
from microtome_serve.asking import Ask
from microtome_serve.filters import check_size
from microtome_serve.graph import Graph, Served
from microtome_serve.guards import Left
from microtome_serve.problems import responses
from microtome_serve.questions import SearchOptions, SearchRequest
from microtome_serve.schemas import SearchAnswer
from microtome_serve.uploads import image_queries

router = APIRouter(prefix="/v1", tags=["search"])

Options = Annotated[
    str,
    Form(
        description="What is to be found, as in `/v1/search`, as JSON.",
        examples=['{"k": 5, "level": "tile", "query_mpp": 0.5}'],
    ),
]


@router.post(
    "/search",
    summary="What looks alike",
    response_model=SearchAnswer,
    responses=responses(404, 413),
)
async def search(access: Reader, graph: Served, left_s: Left, asked: SearchRequest) -> Response:
    """Find tiles, regions, slides or cases that look like tiles, regions, slides or vectors.

    Scores are exact cosines. Equal scores come by id, so that pages don't overlap.
    """
    if len(asked.queries) > graph.settings.limits.queries:
        raise RequestTooLarge(
            f"{len(asked.queries)} queries are more than {graph.settings.limits.queries}",
            remedy="Ask several times.",
        )
    asks = [asked.ask(one.query()) for one in asked.queries]
    return await _answered(access, graph, asks, left_s)


@router.post(
    "/search/image",
    summary="What looks like a picture",
    response_model=SearchAnswer,
    responses=responses(404, 413),
)
async def search_image(
    access: Reader,
    graph: Served,
    left_s: Left,
    images: Annotated[list[UploadFile], File(min_length=1, description="PNG, JPEG, TIFF or WebP.")],
    options: Options = "{}",
) -> Response:
    """As `/v1/search`, by uploaded pictures of tissue; each is a query."""
    try:
        wanted = SearchOptions.model_validate_json(options)
    except ValidationError as error:
        raise RequestValidationError(
            [one | {"loc": ("body", "options", *one["loc"])} for one in error.errors()]
        ) from None
    queries = await image_queries(images, graph.settings.limits)
    return await _answered(access, graph, [wanted.ask(query) for query in queries], left_s)


async def _answered(access: Access, graph: Graph, asks: list[Ask], left_s: float) -> Response:
    most = graph.settings.limits.k
    if asks[0].depth > most:
        raise SettingError(f"k and offset must be {most} together at most, not {asks[0].depth}")
    check_size(asks[0].conditions)
    found: bytes = await graph.search.search.remote(access, tuple(asks), left_s)
    return Response(b'{"results":' + found + b"}", media_type="application/json")
