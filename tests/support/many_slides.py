"""An atlas of very many small slides, each of a kind that mixes tissues in its own way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from microtome.atlas.atlas import Atlas
from microtome.atlas.schema import vector_column
from microtome.atlas.writer import Writer, open_writer
from support.clustered_atlas import make_atlas, tile_name

BLOCK_SLIDES = 2000


@dataclass(frozen=True)
class Kinds:
    """Slides of vectors on the unit sphere, whose variance falls as 1/i over the dimensions.

    Each kind mixes `mixed` of the tissues by shares of its own; a slide of that kind has shares
    near those, is shifted as a whole, by its stain, by `stain`², and its tiles lie around their
    tissue by `spread`² of what tissues lie apart. The two slides of a case are of one kind.
    """

    dim: int = 128
    kinds: int = 200
    tissues: int = 2000
    mixed: int = 24
    stain: float = 0.3
    spread: float = 0.9

    def slides(self, count: int, tiles: int = 100, seed: int = 0) -> Iterator[NDArray[np.float32]]:
        """Blocks of (slides · tiles, D) unit vectors; another seed draws others of the same."""
        world = np.random.default_rng(7)
        scale = np.arange(1, self.dim + 1, dtype=np.float32) ** -0.5
        tissues = world.standard_normal((self.tissues, self.dim), dtype=np.float32)
        mixed = [world.choice(self.tissues, self.mixed, replace=False) for _ in range(self.kinds)]
        shares = world.dirichlet(np.full(self.mixed, 0.5), self.kinds)
        for start in range(0, count, BLOCK_SLIDES):
            draw = np.random.default_rng([seed, start])
            own = min(BLOCK_SLIDES, count - start)
            vectors = np.empty((own, tiles, self.dim), np.float32)
            of_cases = draw.integers(0, self.kinds, (own + 1) // 2).repeat(2)
            for slide, kind in enumerate(of_cases[:own].tolist()):
                parts = draw.dirichlet(shares[kind] * 15 + 0.01)
                vectors[slide] = tissues[draw.choice(mixed[kind], tiles, p=parts)]
            vectors += self.stain * draw.standard_normal((own, 1, self.dim), dtype=np.float32)
            vectors += self.spread * draw.standard_normal(vectors.shape, dtype=np.float32)
            flat = (vectors * scale).reshape(-1, self.dim)
            yield flat / np.linalg.norm(flat, axis=1, keepdims=True)


def make_slides(uri: str, kinds: Kinds, count: int, tiles: int = 100) -> Atlas:
    """An atlas of so many slides; each is called by its number, and two are a case."""
    atlas = make_atlas(uri, kinds.dim)
    with open_writer(uri, "test") as writer:
        first = 0
        for vectors in kinds.slides(count, tiles):
            append_slides(writer, atlas, vectors, tiles, first)
            first += len(vectors) // tiles
    return atlas


def append_slides(
    writer: Writer, atlas: Atlas, vectors: NDArray[np.float32], tiles: int, first: int
) -> None:
    """Append (slides · tiles, D) vectors as slides that are numbered from `first` on."""
    (model_id,) = atlas.models
    count = len(vectors)
    numbers = first * tiles + np.arange(count)
    ranks = numbers % tiles
    flat = pa.array(vectors.astype(np.float16).reshape(-1))
    shared = _named(first, count // tiles)
    of_tiles = {
        "tile_id": pa.array([tile_name(number) for number in numbers.tolist()]),
        "x": pa.array(ranks.astype(np.int32)),
        "y": pa.array((ranks // 10).astype(np.int32)),
        "size_px": pa.array(np.full(count, 16, np.int32)),
        vector_column(model_id): pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
    } | {name: pa.array(np.repeat(values, tiles)) for name, values in shared.items()}
    of_slides = {name: pa.array(values) for name, values in shared.items()} | {
        "tiles": pa.array(np.full(count // tiles, tiles, np.int64))
    }
    for table, given in (("tiles", of_tiles), ("slides", of_slides)):
        schema = atlas.dataset(table).schema
        rows = len(next(iter(given.values())))
        columns = [given.get(field.name, pa.nulls(rows, field.type)) for field in schema]
        writer.append(table, pa.table(columns, schema=schema))


def slide_name(number: int) -> str:
    """The id of a slide."""
    return f"slide-{number:06d}"


def _named(first: int, count: int) -> dict[str, list[str]]:
    numbers = range(first, first + count)
    return {
        "slide_id": [slide_name(number) for number in numbers],
        "case_id": [f"case-{number // 2:06d}" for number in numbers],
    }
