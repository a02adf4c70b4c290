"""A small real atlas of slides whose tiles each have one known colour.

Its encoder's vector is the mean colour, so what looks alike is plain to see: the nearest neighbour
of a pink tile is a pink tile.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from microtome.atlas.atlas import Atlas
from microtome.atlas.schema import tile_ids, vector_column
from microtome.atlas.tables import table_uri
from microtome.config import GridSettings, MppSettings
from microtome.models.card import ModelCard, Preprocessing
from microtome.slides.opening import open_slide
from microtome.slides.slide import SlideReader, SlideRef
from microtome.tiles.grid import TileGrid
from microtome.tiles.reading import ReadPlan, read_tile
from microtome_jobs.made.pyramid import PyramidSpec, write_pyramid
from support.made_atlas import open_or_create

GRID = GridSettings(mpp=0.5, tile_px=64, stride_px=64)
COLUMNS = pa.schema([("organ", pa.string()), ("age", pa.int64())])
COLOURS = {"pink": (230, 140, 190), "purple": (110, 60, 150), "tan": (220, 190, 130)}


class MeanColour:
    """An encoder: the direction of the mean colour, as light absorbed, in `dim` ≥ 3 numbers."""

    def __init__(self, name: str = "mean-colour", mpp: float | None = None) -> None:
        self.card = ModelCard(
            name=name,
            architecture={"kind": name},
            preprocessing=Preprocessing(input_px=64),
            dim=4,
            weights_sha256="0" * 64,
            mpp=mpp,
        )
        self.seen: list[tuple[int, ...]] = []
        """The shape of every batch."""

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.seen.append(pixels.shape)
        absorbed = 255 - pixels.mean(axis=(1, 2), dtype=np.float32)
        vectors = np.pad(absorbed, ((0, 0), (0, 1)), constant_values=20)
        unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit


@dataclass(frozen=True)
class Quilt:
    """A slide of square patches, one tile each.

    Attributes:
        slide_id: its file is `<slide_id>.svs`.
        patches: rows of names of `COLOURS`.
        case_id: its case.
        organ: a manifest column.
        age: another one.
    """

    slide_id: str
    patches: tuple[tuple[str, ...], ...]
    case_id: str | None = None
    organ: str | None = None
    age: int | None = None

    def colour_at(self, x: int, y: int) -> str:
        """The colour of the patch at a place, level-0 px."""
        return self.patches[y // GRID.tile_px][x // GRID.tile_px]

    def pixels(self) -> NDArray[np.uint8]:
        """Patches with a little noise of their own, so that no two are quite alike."""
        noise = np.random.default_rng(sum(self.slide_id.encode()))
        colours = np.array([[COLOURS[name] for name in row] for row in self.patches])
        shaded = np.clip(colours + noise.integers(-9, 10, colours.shape), 0, 255).astype(np.uint8)
        return shaded.repeat(GRID.tile_px, axis=0).repeat(GRID.tile_px, axis=1)

    def write(self, folder: Path) -> Path:
        """Write it as an SVS of two levels."""
        path = folder / f"{self.slide_id}.svs"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_pyramid(path, self.pixels(), PyramidSpec(mpp=0.5, levels=2, quality=95))
        return path


QUILTS = (
    Quilt("a", (("pink", "purple"), ("pink", "tan"), ("purple", "tan")), "case 1", "skin", 40),
    Quilt("b", (("pink", "tan"), ("tan", "purple")), "case 1", "liver", 40),
    Quilt("c", (("purple", "pink"), ("pink", "pink")), "case 2", "skin", 71),
    Quilt("d", (("tan", "pink"), ("purple", "purple")), None, None, None),
)


def make_atlas(folder: Path, encoder: MeanColour, quilts: tuple[Quilt, ...] = QUILTS) -> Atlas:
    """Write the slides, and index every tile of them."""
    uri = str(folder / "atlas")
    atlas = open_or_create(uri, GRID, encoder.card, COLUMNS)
    for quilt in quilts:
        add_slide(atlas, encoder, quilt, quilt.write(folder))
    return Atlas.open(uri)


def add_slide(
    atlas: Atlas, encoder: MeanColour, quilt: Quilt, path: Path, mpp: float | None = None
) -> None:
    """Add one slide's row and its tiles, as a job would; `mpp` is for one that doesn't say."""
    ref = SlideRef(quilt.slide_id, str(path), mpp=mpp)
    shared = {
        "slide_id": quilt.slide_id,
        "case_id": quilt.case_id,
        "organ": quilt.organ,
        "age": quilt.age,
        "run_id": "made",
    }
    with open_slide(ref, MppSettings()) as reader:
        slide = reader.slide
        tiles, vectors = _tiles(reader, atlas.grid, encoder, shared)
    row = shared | {
        "uri": str(path),
        "content_id": slide.content_id,
        "mpp": slide.mpp,
        "width_px": slide.width_px,
        "height_px": slide.height_px,
        "tiles": len(tiles),
    }
    _append(atlas, "slides", pa.Table.from_pylist([row], _without_vectors(atlas.slides.schema)))
    plain = pa.Table.from_pylist(tiles, _without_vectors(atlas.tiles.schema))
    _append(atlas, "tiles", plain.append_column(*_vectors(atlas, encoder, vectors)))


def _tiles(
    reader: SlideReader, settings: GridSettings, encoder: MeanColour, shared: dict[str, object]
) -> tuple[list[dict[str, object]], NDArray[np.float32]]:
    grid, plan = TileGrid.of(reader.slide, settings), ReadPlan.of(reader.slide, settings)
    corners = grid.corners()
    pixels = np.stack([read_tile(reader, plan, x, y) for x, y in corners.tolist()])
    ids = tile_ids(reader.slide.content_id, settings.key, corners)
    rows = [
        shared
        | {"tile_id": name, "x": x, "y": y, "size_px": grid.size_px, "tissue": 1.0, "sharpness": 0}
        for name, (x, y) in zip(ids, corners.tolist(), strict=True)
    ]
    return rows, encoder.encode(pixels)


def _vectors(
    atlas: Atlas, encoder: MeanColour, vectors: NDArray[np.float32]
) -> tuple[pa.Field, pa.Array]:
    values = pa.array(vectors.astype(np.float16).ravel())
    column = pa.FixedSizeListArray.from_arrays(values, encoder.card.dim)
    return atlas.tiles.schema.field(vector_column(encoder.card.model_id)), column


def _without_vectors(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field for field in schema if not pa.types.is_fixed_size_list(field.type)])


def _append(atlas: Atlas, table: str, rows: pa.Table) -> None:
    lance.write_dataset(rows, table_uri(atlas.uri, table), mode="append")
