"""Facts about the server and its atlas."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()


@router.get("/healthz", summary="Whether the server answers", tags=["server"])
async def healthz() -> dict[str, str]:
    """Answers as soon as HTTP is spoken; says nothing about model and atlas."""
    return {"status": "ok"}
