"""An atlas of made vectors in clusters that overlap: the nearest of one lie in many of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from microtome.atlas.atlas import Atlas
from microtome.atlas.schema import vector_column
from microtome.atlas.writer import Writer, open_writer
from microtome.config import GridSettings
from microtome.models.card import ModelCard, Preprocessing

GRID = GridSettings(mpp=0.5, tile_px=16, stride_px=16)
SITES = 100
COLUMNS = pa.schema([("site", pa.string()), ("half", pa.bool_())])
BLOCK_ROWS = 65_536
SLIDE_TILES = 1000
CASE_SLIDES = 3


@dataclass(frozen=True)
class Clusters:
    """A mixture of Gaussians on the unit sphere.

    Cluster centres are drawn from a Gaussian whose variance falls as 1/i over the dimensions, as
    those of embeddings do, and members around them from one `spread`² times as wide, give or take
    40 %; all is turned at random, so that no axis is special, and brought to unit length. The
    cluster of rank r has a share of 1/√r.
    """

    dim: int = 512
    clusters: int = 1000
    spread: float = 1.5

    def vectors(self, rows: int, seed: int = 0) -> Iterator[NDArray[np.float32]]:
        """Unit vectors in blocks; another seed draws others from the same clusters."""
        world = np.random.default_rng(7)
        scale = np.arange(1, self.dim + 1, dtype=np.float32) ** -0.5
        turn = np.linalg.qr(world.normal(size=(self.dim, self.dim)))[0].astype(np.float32)
        centres = world.standard_normal((self.clusters, self.dim), dtype=np.float32)
        widths = self.spread * world.uniform(0.6, 1.4, self.clusters).astype(np.float32)
        shares = np.arange(1, self.clusters + 1) ** -0.5
        for start in range(0, rows, BLOCK_ROWS):
            draw = np.random.default_rng([seed, start])
            count = min(BLOCK_ROWS, rows - start)
            own = draw.choice(self.clusters, count, p=shares / shares.sum())
            around = draw.standard_normal((count, self.dim), dtype=np.float32)
            vectors = (centres[own] + around * widths[own, None]) * scale @ turn
            yield vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def drawn(self, rows: int, seed: int = 0) -> NDArray[np.float32]:
        """All of them at once."""
        return np.concatenate(list(self.vectors(rows, seed)))


def card_of(dim: int, name: str = "made") -> ModelCard:
    """The card of a model whose vectors have so many values."""
    return ModelCard(
        name=name,
        architecture={"kind": name},
        preprocessing=Preprocessing(),
        dim=dim,
        weights_sha256="00",
    )


def make_atlas(uri: str, dim: int) -> Atlas:
    """An atlas without tiles, of one model."""
    with open_writer(uri, "test") as writer:
        return Atlas.open_or_create(writer, GRID, card_of(dim), COLUMNS)


def add_tiles(atlas: Atlas, vectors: NDArray[np.float32], first: int = 0) -> None:
    """Append tiles; the slide, case and site of a tile follow from its number, `first` on."""
    with open_writer(atlas.uri, "test") as writer:
        append_tiles(writer, atlas, vectors, first)


def append_tiles(
    writer: Writer, atlas: Atlas, vectors: NDArray[np.float32], first: int = 0
) -> None:
    """As `add_tiles`, by a writer that one has."""
    count, dim = vectors.shape
    numbers = np.arange(first, first + count)
    sites = np.random.default_rng([3, first]).integers(0, SITES, count)
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float16).reshape(-1))
    (model_id,) = atlas.models
    given = {
        "tile_id": pa.array([tile_name(number) for number in numbers.tolist()]),
        "slide_id": pa.array([f"slide-{n // SLIDE_TILES:06d}" for n in numbers.tolist()]),
        "case_id": pa.array(
            [f"case-{n // SLIDE_TILES // CASE_SLIDES:06d}" for n in numbers.tolist()]
        ),
        "x": pa.array(numbers.astype(np.int32)),
        "y": pa.array(np.zeros(count, np.int32)),
        "size_px": pa.array(np.full(count, 16, np.int32)),
        "site": pa.array([f"site-{site:02d}" for site in sites.tolist()]),
        "half": pa.array(sites < SITES // 2),
        vector_column(model_id): pa.FixedSizeListArray.from_arrays(flat, dim),
    }
    schema = atlas.tiles.schema
    columns = [given.get(field.name, pa.nulls(count, field.type)) for field in schema]
    writer.append("tiles", pa.table(columns, schema=schema))


def tile_name(number: int) -> str:
    """The id of a tile, in an order of its own."""
    return f"{number * 0x9E3779B97F4A7C15 % 2**64:032x}"
