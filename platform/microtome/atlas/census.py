"""One pass over `tiles`: what lies there of each slide, and whether it is what `slides` says.

Column scans, batch by batch: memory grows with the number of slides, not of tiles. Vectors are
read only by `count_vectors`; `find_repeated` holds 8 bytes of at most `KEYS_AT_ONCE` tiles.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from microtome.atlas.schema import tile_ids, vector_column

KEYS_AT_ONCE = 1 << 25  # 256 MB; a larger table takes several passes over its column `tile_id`
BATCH_ROWS = 1 << 16
ID_SAMPLE = 32  # of so many tile ids one is hashed anew: hashing takes longer than all the rest
VECTOR_BYTES = 1 << 25  # of vectors in one batch
UNIT_TOLERANCE = 2e-3  # float16 moves the length of a unit vector by at most 5e-4
_MIXERS = np.array(
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F],
    dtype=np.uint64,
)


@dataclass(slots=True)
class Census:
    """Tiles by slide; each array has one value per row of `slides`, in its order.

    Attributes:
        slide_ids: the slides, each once.
        counts: (S,) tiles found.
        wrong_ids: (S,) tiles whose id isn't the hash of content id, grid and corner, among those
            that were hashed anew.
        differing: per shared column (S,) tiles whose value isn't the slide's.
        strangers: tiles of slides that `slides` doesn't know, by slide id.
    """

    slide_ids: list[str]
    counts: NDArray[np.int64]
    wrong_ids: NDArray[np.int64]
    differing: dict[str, NDArray[np.int64]]
    strangers: Counter[str | None] = field(default_factory=Counter)

    @property
    def rows(self) -> int:
        """Tiles looked at."""
        return int(self.counts.sum()) + self.strangers.total()


@dataclass(slots=True)
class VectorCount:
    """Vectors of one model by slide, in the order of `Census.slide_ids`.

    Attributes:
        present: (S,) tiles that have a vector.
        not_finite: (S,) vectors that hold a value that is no number.
        not_unit: (S,) vectors of another length than 1.
    """

    present: NDArray[np.int64]
    not_finite: NDArray[np.int64]
    not_unit: NDArray[np.int64]


def take_census(
    tiles: lance.LanceDataset,
    slides: pa.Table,
    grid_key: str,
    shared: list[str],
    *,
    id_sample: int = ID_SAMPLE,
) -> Census:
    """Count the tiles of each slide and hold them against its row.

    Args:
        tiles: the table of tiles.
        slides: rows of `slides`, each slide once: `slide_id`, `content_id` and the shared columns.
        grid_key: `GridSettings.key`.
        shared: columns that a tile has from its slide.
        id_sample: hash one tile in so many anew, and the first of each slide in each batch.
    """
    slide_ids = slides["slide_id"].to_pylist()
    contents = slides["content_id"].to_pylist()
    size = len(slide_ids)
    census = Census(slide_ids, _zeros(size), _zeros(size), {name: _zeros(size) for name in shared})
    expected = {name: slides[name].combine_chunks() for name in shared}
    columns = ["slide_id", "tile_id", "x", "y", *shared]
    for codes, batch, strangers in _by_slide(tiles, columns, slide_ids):
        census.strangers.update(strangers)
        census.counts += np.bincount(codes, minlength=size)
        sample = _sample(codes, id_sample)
        wrong = _wrong_ids(codes[sample], batch.take(pa.array(sample)), contents, grid_key)
        census.wrong_ids += np.bincount(wrong, minlength=size)
        for name, values in expected.items():
            differs = _differs(batch[name], values.take(pa.array(codes)))
            census.differing[name] += np.bincount(codes[differs], minlength=size)
    return census


def count_vectors(tiles: lance.LanceDataset, slide_ids: list[str], model_id: str) -> VectorCount:
    """Read every vector of one model; tiles of unknown slides are left out."""
    column = vector_column(model_id)
    dim = tiles.schema.field(column).type.list_size
    size = len(slide_ids)
    count = VectorCount(_zeros(size), _zeros(size), _zeros(size))
    batch_rows = max(1, VECTOR_BYTES // (2 * dim))
    for codes, batch, _ in _by_slide(tiles, ["slide_id", column], slide_ids, batch_rows):
        held = codes[pc.is_valid(batch[column]).to_numpy(zero_copy_only=False)]
        values = batch[column].flatten().to_numpy(zero_copy_only=False)
        vectors = values.reshape(len(held), dim).astype(np.float32)
        squares = np.einsum("nd,nd->n", vectors, vectors)
        finite = np.isfinite(squares)
        unit = np.abs(np.sqrt(squares, where=finite, out=squares) - 1) <= UNIT_TOLERANCE
        count.present += np.bincount(held, minlength=size)
        count.not_finite += np.bincount(held[~finite], minlength=size)
        count.not_unit += np.bincount(held[finite & ~unit], minlength=size)
    return count


def slides_without_field(tiles: lance.LanceDataset, column: str) -> set[str]:
    """Slides with tiles in fragments that hold no data at all of a column: it is null there.

    Only fragments' metadata and, of those that lack the column, the slide ids are read.
    """
    (number,) = (f.id() for f in tiles.lance_schema.fields() if f.name() == column)
    lacking = [
        fragment
        for fragment in tiles.get_fragments()
        if all(number not in file.fields for file in fragment.metadata.files)
    ]
    found: set[str] = set()
    if lacking:
        batches = tiles.scanner(columns=["slide_id"], fragments=lacking).to_batches()
        for batch in batches:
            found.update(pc.unique(batch["slide_id"]).to_pylist())
    return found


def find_repeated(tiles: lance.LanceDataset) -> Counter[str | None]:
    """Tiles too many, by slide: rows whose tile id another row has, less one for each id."""
    parts = max(1, math.ceil(tiles.count_rows() / KEYS_AT_ONCE))
    repeated: Counter[str | None] = Counter()
    for part in range(parts):
        keys = np.sort(np.concatenate([_zeros(0).astype(np.uint64), *_keys_of(tiles, part, parts)]))
        twice = np.unique(keys[1:][keys[1:] == keys[:-1]])
        if len(twice):
            repeated += _too_many(tiles, twice)
    return repeated


def _keys_of(tiles: lance.LanceDataset, part: int, parts: int) -> Iterator[NDArray[np.uint64]]:
    for batch in tiles.scanner(columns=["tile_id"], batch_size=BATCH_ROWS).to_batches():
        keys, _ = _keys(batch["tile_id"])
        yield keys[keys % np.uint64(parts) == part] if parts > 1 else keys


def _too_many(tiles: lance.LanceDataset, twice: NDArray[np.uint64]) -> Counter[str | None]:
    """By slide, how many rows of those keys are there beyond the first of each tile id."""
    seen: set[str] = set()
    repeated: Counter[str | None] = Counter()
    for batch in tiles.scanner(columns=["tile_id", "slide_id"], batch_size=BATCH_ROWS).to_batches():
        keys, whole = _keys(batch["tile_id"])
        suspect = batch.filter(pa.array(whole)).filter(pa.array(np.isin(keys, twice)))
        for tile_id, slide_id in zip(*suspect.to_pydict().values(), strict=True):
            if tile_id in seen:
                repeated[slide_id] += 1
            seen.add(tile_id)
    return repeated


def _keys(tile_id: pa.Array) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """64 well-mixed bits of each id of 32 letters, and which rows have such an id."""
    whole = pc.fill_null(pc.equal(pc.binary_length(tile_id), 32), False)
    letters = tile_id.filter(whole).cast(pa.binary()).cast(pa.binary(32))
    words = np.frombuffer(letters.buffers()[1], np.uint64).reshape(-1, 4)
    words = words[letters.offset : letters.offset + len(letters)]
    return (words * _MIXERS).sum(axis=1, dtype=np.uint64), whole.to_numpy(zero_copy_only=False)


def _by_slide(
    tiles: lance.LanceDataset, columns: list[str], slide_ids: list[str], rows: int = BATCH_ROWS
) -> Iterator[tuple[NDArray[np.int64], pa.RecordBatch, Counter[str | None]]]:
    """Batches of known slides' tiles, the place of each one's slide in `slide_ids`, and the rest.

    The rest are the tiles of unknown slides, counted by slide id.
    """
    place = {slide_id: number for number, slide_id in enumerate(slide_ids)}
    for batch in tiles.scanner(columns=columns, batch_size=rows).to_batches():
        coded = batch["slide_id"].dictionary_encode("encode")
        names = coded.dictionary.to_pylist()
        places = np.array([place.get(name, -1) for name in names], dtype=np.int64)
        codes = places[coded.indices.to_numpy()]
        unknown = codes < 0
        strangers = Counter(batch["slide_id"].filter(pa.array(unknown)).to_pylist())
        yield codes[~unknown], batch.filter(pa.array(~unknown)) if strangers else batch, strangers


def _sample(codes: NDArray[np.int64], every: int) -> NDArray[np.int64]:
    """Rows to look at, slide by slide: the first of each slide, and one in so many."""
    order = np.argsort(codes, kind="stable")
    firsts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    return order[np.union1d(firsts, np.arange(0, len(codes), every))]


def _wrong_ids(
    codes: NDArray[np.int64], rows: pa.RecordBatch, contents: list[str], grid_key: str
) -> NDArray[np.int64]:
    """The slides' places of those tiles, given slide by slide, whose id isn't theirs."""
    if not len(codes):
        return codes
    corners = np.stack([rows["x"].to_numpy(), rows["y"].to_numpy()], axis=1)
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    expected: list[str] = []
    for start, of_slide in zip(starts, np.split(corners, starts[1:]), strict=True):
        expected += tile_ids(contents[codes[start]], grid_key, of_slide)
    return codes[_differs(rows["tile_id"], pa.array(expected, pa.string()))]


def _differs(found: pa.Array, expected: pa.Array) -> NDArray[np.bool_]:
    """Where two columns differ; null is like null, and NaN like NaN."""
    if pa.types.is_float64(found.type):
        found, expected = found.view(pa.int64()), expected.view(pa.int64())
    equal = pc.fill_null(pc.equal(found, expected), False)
    both_null = pc.and_(pc.is_null(found), pc.is_null(expected))
    same: NDArray[np.bool_] = pc.or_(equal, both_null).to_numpy(zero_copy_only=False)
    return ~same


def _zeros(size: int) -> NDArray[np.int64]:
    return np.zeros(size, dtype=np.int64)
