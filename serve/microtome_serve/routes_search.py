"""`POST /v1/search`: what looks alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from fastapi import APIRouter
from pydantic import BaseModel

from microtome.search.query import VectorQuery
from microtome.search.result import SearchSettings
from microtome_serve.graph import Served

router = APIRouter(prefix="/v1", tags=["search"])


class SearchRequest(BaseModel):
    """A search by vector."""

    vector: list[float]
    k: int = 10


@router.post("/search", summary="What looks alike")
async def search(asked: SearchRequest, graph: Served) -> dict[str, Any]:
    """The tiles nearest to a vector."""
    query = VectorQuery(np.array([asked.vector], dtype=np.float32))
    answer: dict[str, Any] = await graph.search.search.remote(query, SearchSettings(k=asked.k))
    return answer
