"""`run_index` in one process: without Ray, or without slides and a model too.

Without those, each file says what it would hold.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from microtome.atlas.fragments import FragmentWriter, Gathered
from microtome.atlas.lease import Lease
from microtome.atlas.objects import objects
from microtome.atlas.outcome import SlideOutcome
from microtome.atlas.writer import Writer
from microtome.config import IndexSettings
from microtome.engine import index
from microtome.engine.cluster import Node
from microtome.engine.run import IndexSummary
from microtome.engine.slide_work import SlideWork
from microtome.engine.stages import ModelChoice
from microtome.slides.slide import SlideRef
from support.killing import Witness
from support.made_atlas import CARD, GRID, slide_of, tiles_of, vectors_of

WAVE_SLIDES = 3
FLUSH_ROWS = 4  # so most slides have several fragments


def write_archive(folder: Path, slides: Mapping[str, Mapping[str, Any]], second: int) -> None:
    """Make a folder hold exactly these slides, the new and changed ones modified at that second.

    A slide is `{"content": …, "tiles": …}`, or with a `cause` one that can't be read.
    """
    folder.mkdir(exist_ok=True)
    for file in folder.glob("*.svs"):
        if file.stem not in slides:
            file.unlink()
    for name, said in slides.items():
        file, text = folder / f"{name}.svs", json.dumps(said)
        if not file.exists() or file.read_text() != text:
            file.write_text(text)
            os.utime(file, (second, second))
    rows = (f"{name}.svs,case of {name},lung,{len(name)}\n" for name in slides)
    (folder / "manifest.csv").write_text("slide_id,case_id,organ,age\n" + "".join(rows))


def bare_index(archive: Path, uri: str) -> IndexSummary:
    """What `microtome index ARCHIVE --atlas URI` does, with a plain loop in the place of Ray."""

    def embed_slides(
        refs: Sequence[SlideRef], work: SlideWork, *_: object
    ) -> Iterator[SlideOutcome]:
        return (_outcome(ref, work) for ref in refs)

    settings = IndexSettings(
        (str(archive),),
        uri,
        str(archive / "manifest.csv"),
        grid=GRID,
        wave_slides=WAVE_SLIDES,
        wave_s=3600.0,
    )
    return _looped(settings, embed_slides=embed_slides, load_card=lambda name, options: CARD)


def index_here(settings: IndexSettings) -> IndexSummary:
    """`run_index` with a plain loop in the place of Ray, and with slides and the model as ever."""

    def embed_slides(
        refs: Sequence[SlideRef], work: SlideWork, model: ModelChoice, *_: object
    ) -> Iterator[SlideOutcome]:
        encoder = model.load()
        return (work.run(ref, encoder, lambda planned, done: None) for ref in refs)

    return _looped(settings, embed_slides=embed_slides)


def _looped(settings: IndexSettings, **parts: Any) -> IndexSummary:
    @contextmanager
    def counting(*_: object) -> Iterator[tuple[None, Any]]:
        yield None, SimpleNamespace(slide_finished=lambda: None)

    plain = {"counting": counting, "cluster": nullcontext, "nodes": lambda: [Node(1, 0)]}
    with patch.multiple(index, **plain, **parts):
        return index.run_index(settings)


def index_watched(witness: Witness, archive: Path, uri: str) -> None:
    """Index under the eyes of a witness, to whom every durable step is known."""
    folder = type(objects(uri, "_lease", "the lease"))
    witness.watch(Writer, "_repeat", lambda _, table, *__, **___: f"{table}: a commit")
    witness.watch(Gathered, "_flush", lambda _: "tiles: a worker's fragment")
    for name in ("put_new", "put", "delete"):
        witness.watch(folder, name, lambda at, *_, name=name: f"{at._folder.name[1:]}: {name}")
    with patch.object(Lease, "keep"):  # renewals would be steps that come by the clock
        bare_index(archive, uri)


def _outcome(ref: SlideRef, work: SlideWork) -> SlideOutcome:
    said = json.loads(Path(ref.uri).read_text())
    if cause := said.get("cause"):
        return SlideOutcome(ref, "failed", cause=cause, message="it was made so")
    slide, tiles = slide_of(ref, said["content"]), said["tiles"]
    if holder := work.known.get(slide.content_id):
        same = holder == ref.slide_id
        return SlideOutcome(ref, "unchanged" if same else "known", slide.content_id, slide=slide)
    writer = FragmentWriter(work.target, ref, slide, size_px=32, flush_rows=FLUSH_ROWS)
    vectors = vectors_of(said["content"], tiles)
    for first in range(0, tiles, 2):
        few = slice(first, min(first + 2, tiles))
        writer.add(tiles_of(few.stop - first, first=first), vectors[few])
    return SlideOutcome(
        ref,
        "done" if tiles else "empty",
        slide.content_id,
        slide=slide,
        planned_tiles=tiles,
        stored_tiles=writer.rows,
        fragments=writer.close(),
        tissue_mm2=tiles / 4,
        thumbnail=b"jpeg",
        bytes_read=99,
        seconds=0.5,
    )
