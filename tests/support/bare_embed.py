"""A small real atlas of quilts, indexed and embedded in one process: the jobs' own code, no Ray."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from microtome.atlas.atlas import Atlas
from microtome.atlas.outcome import SlideOutcome
from microtome.config import EmbedSettings, MppSettings
from microtome.engine import embed
from microtome.engine.cluster import Node
from microtome.engine.run import IndexSummary
from microtome.engine.slide_work import SlideWork, Work
from microtome.slides.slide import SlideRef
from support.coloured_atlas import COLUMNS, GRID, QUILTS, MeanColour, Quilt
from support.made_atlas import MadeAtlas, _release

FIRST, SECOND = MeanColour("first"), MeanColour("second")


def index_quilts(
    folder: Path, encoder: MeanColour = FIRST, quilts: Sequence[Quilt] = QUILTS, uri: str = ""
) -> Atlas:
    """Write the slides and index them, each in a commit of its own; in the folder unless said."""
    uri = uri or str(folder / "atlas")
    made = MadeAtlas(uri, encoder.card, GRID, COLUMNS)
    work = SlideWork(made.target, GRID, MppSettings(), "auto", 0.0, batch_size=4, threads=2)
    for quilt in quilts:
        columns = {"organ": quilt.organ, "age": quilt.age}
        path = str(quilt.write(folder))
        ref = SlideRef(f"{quilt.slide_id}.svs", path, quilt.case_id, columns=columns, stamp="1")
        (outcome,) = made.committer.commit([work.run(ref, encoder, lambda planned, done: None)])
        assert outcome.status == "done", outcome.message
    _release(uri)
    return Atlas.open(uri)


def bare_embed(uri: str, encoder: MeanColour = SECOND, **settings: Any) -> IndexSummary:
    """`run_embed` with a plain loop in the place of Ray."""

    def embed_slides(refs: Sequence[SlideRef], work: Work, *_: object) -> Iterator[SlideOutcome]:
        for ref in refs:
            yield work.run(ref, encoder, lambda planned, done: None)

    @contextmanager
    def counting(*_: object) -> Iterator[tuple[None, Any]]:
        yield None, SimpleNamespace(slide_finished=lambda: None)

    plain = {
        "embed_slides": embed_slides,
        "counting": counting,
        "cluster": nullcontext,
        "nodes": lambda: [Node(1, 0)],
        "load_card": lambda name, options: encoder.card,
    }
    with patch.multiple(embed, **plain):
        return embed.run_embed(
            EmbedSettings(uri, encoder.card.name, **{"batch_size": 4, "wave_slides": 2} | settings)
        )
