"""Facts about the server and its atlas."""

from __future__ import annotations

import asyncio
from typing import Final

from fastapi import APIRouter
from pydantic import BaseModel, Field
from ray.serve.exceptions import RayServeException

from microtome_serve.access import Reader
from microtome_serve.graph import Served
from microtome_serve.problems import responses
from microtome_serve.schemas import AtlasFacts

READY_S: Final = 5.0

router = APIRouter()


class Status(BaseModel):
    """How the server is."""

    status: str = Field(examples=["ok"])


@router.get("/healthz", summary="Whether the server answers", tags=["server"])
async def healthz() -> Status:
    """Answers as soon as HTTP is spoken; says nothing about model and atlas."""
    return Status(status="ok")


@router.get(
    "/readyz",
    summary="Whether questions can be answered",
    tags=["server"],
    responses={503: responses()[503]},
)
async def readyz(graph: Served) -> Status:
    """200 once the model is loaded and the atlas is open, 503 before and whenever it isn't."""
    try:
        async with asyncio.timeout(READY_S):
            await graph.search.ready.remote()
    except TimeoutError:
        raise RayServeException("the model or the atlas isn't loaded yet") from None
    return Status(status="ready")


@router.get("/v1/atlas", summary="What the atlas holds", tags=["atlas"], responses=responses())
async def atlas(access: Reader, graph: Served) -> AtlasFacts:
    """Version, grid, models, fields to filter by, and counts."""
    return AtlasFacts(**await graph.search.facts.remote(access))
