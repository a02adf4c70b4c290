"""Small atlases with a known content: slides whose tiles and vectors follow from their name."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from microtome.atlas.atlas import Atlas
from microtome.atlas.commit import Committer
from microtome.atlas.fragments import FragmentWriter, TilesTarget
from microtome.atlas.outcome import SlideOutcome
from microtome.atlas.runs import start_run
from microtome.atlas.writer import open_writer
from microtome.config import GridSettings
from microtome.models.card import ModelCard, Preprocessing
from microtome.slides.slide import Level, Slide, SlideRef
from microtome.tiles.batch import TileBatch

GRID = GridSettings(mpp=0.5, tile_px=16, stride_px=16)
CARD = ModelCard(
    name="made",
    architecture={"kind": "made"},
    preprocessing=Preprocessing(),
    dim=8,
    weights_sha256="00",
)
COLUMNS = pa.schema([("organ", pa.string()), ("age", pa.int64())])


_WRITERS: dict[str, Callable[[], object]] = {}  # what releases each, by the atlas's URI


def _release(uri: str) -> None:
    if writer := _WRITERS.pop(uri, None):
        writer()


def open_or_create(
    uri: str,
    grid: GridSettings = GRID,
    card: ModelCard = CARD,
    columns: pa.Schema = COLUMNS,
) -> Atlas:
    """Make or open an atlas to write to it, as a job does that ends at once."""
    _release(uri)
    with open_writer(uri, "test") as writer:
        return Atlas.open_or_create(writer, grid, card, columns)


def content_id(text: str) -> str:
    """A content id for made bytes."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def ref_of(slide_id: str, *, stamp: str = "1", uri: str = "", case_id: str = "case-1") -> SlideRef:
    """A wanted slide of a case and an organ."""
    return SlideRef(
        slide_id,
        uri or f"slides/{slide_id}",
        case_id=case_id,
        columns={"organ": "lung", "age": 61},
        stamp=stamp,
    )


def slide_of(ref: SlideRef, content: str) -> Slide:
    """Facts of a made slide."""
    return Slide(
        ref.slide_id,
        ref.uri,
        content_id(content),
        1234,
        "tiff",
        "made",
        "openslide",
        (Level(4096, 2048, 1.0), Level(1024, 512, 4.0)),
        0.25,
        "slide",
        40.0,
        {"k": "v"},
    )


def tiles_of(count: int, *, first: int = 0) -> TileBatch:
    """Tiles in a row, 16 px side at 0.5 µm of a slide of 0.25: 32 level-0 px each."""
    places = np.arange(first, first + count, dtype=np.int64)
    return TileBatch(
        np.zeros((count, 1, 1, 3), dtype=np.uint8),
        np.stack([places * 32, places % 7], axis=1),
        np.full(count, 0.75, dtype=np.float32),
        np.full(count, 2.0, dtype=np.float32),
    )


def vectors_of(content: str, count: int, dim: int = 8) -> np.ndarray:
    """(count, dim) unit vectors that follow from the content."""
    seed = int(content_id(content)[:8], 16)
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


State = dict[str, tuple[str, int, str, int]]


def state_of(atlas: Atlas) -> State:
    """What readers see: by slide id content, tiles as told, the ledger's status, tiles there.

    The content is that of the facts, where there are some.
    """
    tiles = atlas.tiles.to_table(columns=["slide_id", "tile_id"]).to_pylist()
    assert len({tile["tile_id"] for tile in tiles}) == len(tiles), "a tile is there twice"
    slides = {row["slide_id"]: row for row in atlas.slides.to_table().to_pylist()}
    work = {row["slide_id"]: row["status"] for row in atlas.work.to_table().to_pylist()}
    return {
        slide_id: (
            slides[slide_id]["content_id"] if slide_id in slides else "",
            slides[slide_id]["tiles"] if slide_id in slides else 0,
            work.get(slide_id, ""),
            sum(tile["slide_id"] == slide_id for tile in tiles),
        )
        for slide_id in sorted({*slides, *work, *(tile["slide_id"] for tile in tiles)})
    }


@dataclass
class MadeAtlas:
    """An atlas, one run on it, and a worker's and a committer's part of the job.

    Its writer is released when another is made at the same place, or nobody needs it any more.
    """

    uri: str
    card: ModelCard = CARD
    grid: GridSettings = GRID
    columns: pa.Schema = field(default_factory=lambda: COLUMNS)

    def __post_init__(self) -> None:
        _release(self.uri)
        holding = ExitStack()
        _WRITERS[self.uri] = weakref.finalize(self, holding.close)
        self.writer = holding.enter_context(open_writer(self.uri, "test"))
        self.atlas = Atlas.open_or_create(self.writer, self.grid, self.card, self.columns)
        self.run_id = start_run(self.writer, "index", {"mpp": 0.5}, self.card)

    def release(self) -> None:
        """Let others write; nothing is written through this any more."""
        _release(self.uri)

    @property
    def target(self) -> TilesTarget:
        return TilesTarget.of(self.atlas, self.card.model_id, self.run_id)

    @property
    def committer(self) -> Committer:
        return Committer(self.writer, self.atlas, self.run_id, self.card.model_id)

    def done(self, slide_id: str, content: str = "", tiles: int = 5, **ref: str) -> SlideOutcome:
        """A slide that a worker embedded; its content is its name unless said otherwise."""
        content = content or slide_id
        wanted = ref_of(slide_id, **ref)
        slide = slide_of(wanted, content)
        writer = FragmentWriter(self.target, wanted, slide, size_px=32)
        writer.add(tiles_of(tiles), vectors_of(content, tiles, self.card.dim))
        return SlideOutcome(
            wanted,
            "done",
            slide.content_id,
            slide=slide,
            planned_tiles=tiles,
            stored_tiles=writer.rows,
            fragments=writer.close(),
            tissue_mm2=1.5,
            thumbnail=b"jpeg",
            bytes_read=99,
            seconds=0.5,
        )

    def empty(self, slide_id: str, content: str = "") -> SlideOutcome:
        wanted = ref_of(slide_id)
        slide = slide_of(wanted, content or slide_id)
        return SlideOutcome(wanted, "empty", slide.content_id, slide=slide)

    def failed(self, slide_id: str, cause: str = "truncated", **ref: str) -> SlideOutcome:
        return SlideOutcome(ref_of(slide_id, **ref), "failed", cause=cause, message="it ends early")

    def state(self) -> State:
        """What readers see, see `state_of`."""
        return state_of(self.atlas)
