"""An atlas of two sites, of real slides and a model that ships, for the tests of the server."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pyarrow as pa

from microtome.atlas.atlas import Atlas
from microtome.atlas.commit import Committer
from microtome.atlas.fragments import TilesTarget
from microtome.atlas.runs import start_run
from microtome.atlas.writer import open_writer
from microtome.config import GridSettings, MppSettings
from microtome.engine.slide_work import SlideWork
from microtome.models.encoder import Encoder
from microtome.models.registry import load_encoder
from microtome.slides.slide import SlideRef
from support.coloured_atlas import Quilt

GRID = GridSettings(mpp=0.5, tile_px=64, stride_px=64)
MODEL = "statistics"
COLUMNS = pa.schema([("site", pa.string()), ("age", pa.int64())])
SITES = {"north/a": "north", "north/b": "north", "south/c": "south", "south/d": "south"}
"""Site by slide id; the slide `nowhere` has none."""
SERVED = (
    Quilt("north/a", (("pink", "purple"), ("pink", "tan"), ("purple", "tan")), "case 1", age=40),
    Quilt("north/b", (("pink", "tan"), ("tan", "purple")), "case 1", age=40),
    Quilt("south/c", (("purple", "pink"), ("pink", "pink")), "case 2", age=71),
    Quilt("south/d", (("tan", "pink"), ("purple", "purple")), "case 3"),
    Quilt("nowhere", (("tan", "purple"), ("pink", "tan")), None),
)
BY_ID = {quilt.slide_id: quilt for quilt in SERVED}


@cache
def encoder_of(model: str) -> Encoder:
    """A model, loaded once."""
    return load_encoder(model)


def index_served(folder: Path, quilts: Sequence[Quilt] = SERVED, model: str = MODEL) -> str:
    """Write slides and index them as a job does, but without Ray; the atlas's URI."""
    uri, encoder = str(folder / "atlas"), encoder_of(model)
    with open_writer(uri, "index") as writer:
        atlas = Atlas.open_or_create(writer, GRID, encoder.card, COLUMNS, 0.0)
        run_id = start_run(writer, "index", {"model": model}, encoder.card)
        target = TilesTarget.of(atlas, encoder.card.model_id, run_id)
        work = SlideWork(target, GRID, MppSettings(), "auto", 0.0, batch_size=16, threads=1)
        outcomes = [work.run(_ref(folder, quilt), encoder, lambda *_: None) for quilt in quilts]
        assert {outcome.status for outcome in outcomes} == {"done"}, outcomes
        Committer(writer, atlas, run_id, encoder.card.model_id).commit(outcomes)
    return uri


def _ref(folder: Path, quilt: Quilt) -> SlideRef:
    columns = {"site": SITES.get(quilt.slide_id), "age": quilt.age}
    path = quilt.write(folder / "slides")
    return SlideRef(quilt.slide_id, str(path), quilt.case_id, columns=columns, stamp="1")
