"""`/v1/rollout`: how a new model does beside the old, and which of them answers."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from microtome_serve.access import Operator
from microtome_serve.graph import Graph, Served
from microtome_serve.problems import responses
from microtome_serve.questions import Strict

router = APIRouter(prefix="/v1", tags=["server"])


class RolloutWanted(Strict):
    """What is to change."""

    answers: Literal["model", "candidate"] | None = Field(
        default=None, description="Which of the two answers from now on."
    )
    shadow: float | None = Field(
        default=None, ge=0, le=1, description="Share of questions that the other answers unseen."
    )


class RolloutModel(BaseModel):
    """One of the two models."""

    model_id: str
    name: str


class Comparison(BaseModel):
    """What came of asking both, since the last change."""

    questions: int = Field(description="Asked of both.")
    failed: int = Field(description="That only the other one couldn't answer.")
    skipped: int = Field(description="That it wasn't asked, having enough to do.")
    overlap: float | None = Field(description="Mean share of hits that both found.")
    seconds: float | None = Field(description="Mean time of the one that answers.")
    other_seconds: float | None = Field(description="Mean time of the other.")


class RolloutFacts(BaseModel):
    """How a rollout stands."""

    answers: Literal["model", "candidate"]
    shadow: float
    model: RolloutModel
    candidate: RolloutModel | None
    compared: Comparison


@router.get("/rollout", summary="How a new model does", responses=responses())
async def rollout(access: Operator, graph: Served) -> RolloutFacts:
    """Which model answers, and how alike the other's answers are."""
    return await _facts(graph)


@router.post("/rollout", summary="Switch models", responses=responses())
async def roll_out(access: Operator, graph: Served, wanted: RolloutWanted) -> RolloutFacts:
    """Choose which model answers, or how much the other is asked in its shadow.

    Every replica follows within about a second, and no request is dropped. It lasts until the
    server is deployed anew: what is to stay belongs in its settings.
    """
    if wanted.answers == "candidate":
        await graph.search.ready.remote("candidate")
    await graph.rollout.choose.remote(wanted.answers, wanted.shadow)
    return await _facts(graph)


async def _facts(graph: Graph) -> RolloutFacts:
    choice, compared = await graph.rollout.report.remote()
    models: dict[str, Any] = await graph.search.models.remote()
    return RolloutFacts(
        answers=choice.answers,
        shadow=choice.shadow,
        model=models["model"],
        candidate=models.get("candidate"),
        compared=Comparison(**compared.to_json()),
    )
