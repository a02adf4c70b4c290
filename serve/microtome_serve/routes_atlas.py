"""Facts about the server and its atlas."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from fastapi import APIRouter, FastAPI, Request
from pydantic import BaseModel, Field
from ray.serve.exceptions import RayServeException

from microtome_serve.access import Reader
from microtome_serve.graph import Graph, Served
from microtome_serve.kept import Kept
from microtome_serve.problems import responses
from microtome_serve.schemas import AtlasFacts

log = logging.getLogger("microtome.serve")

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
async def readyz(request: Request) -> Status:
    """200 once the model is loaded and the atlas is open, 503 before and whenever it isn't."""
    try:
        await request.app.state.ready.answer()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told to nobody
        log.info("not ready: %s", error)
        raise RayServeException("the model or the atlas isn't loaded") from None
    return Status(status="ready")


def install(app: FastAPI, graph: Graph) -> None:
    """Let `app` know whether questions can be answered; whoever asks, the graph is once a second.

    Nobody needs a token for it, so it must cost nothing and tell nothing.
    """

    async def ready() -> None:
        async with asyncio.timeout(READY_S):
            await graph.search.ready.remote()

    app.state.ready = Kept(ready)


@router.get("/v1/atlas", summary="What the atlas holds", tags=["atlas"], responses=responses())
async def atlas(access: Reader, graph: Served) -> AtlasFacts:
    """Version, grid, models, fields to filter by, and counts."""
    return AtlasFacts(**await graph.search.facts.remote(access))
