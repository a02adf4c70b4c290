"""`run_embed` in a process of its own that is killed just before one of its durable steps."""

from __future__ import annotations

from typing import Any

from microtome.atlas.columns import TableVersion
from microtome.atlas.fragments import Gathered
from microtome.atlas.writer import Writer
from microtome.engine import embed
from support.bare_embed import bare_embed
from support.killing import Moment, Witness, run_until

STEPS: tuple[tuple[Any, str], ...] = (
    (Writer, "_repeat"),  # every commit, and every table made
    (Gathered, "_flush"),  # a worker's vectors
    (TableVersion, "write"),  # a column file
    (embed, "discard_staged"),
)


def embed_until(uri: str, step: int) -> bool:
    """Embed, killed before the durable step of that number; whether the job was through first."""
    return not run_until(Moment(step), _embed, uri).killed


def _embed(witness: Witness, uri: str) -> None:
    for owner, name in STEPS:
        witness.watch(owner, name)
    bare_embed(uri)
