"""Cosines of every query with a whole gallery, a block of queries at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from microtome.errors import VectorsInvalid
from microtome.evaluation.left_out import LeftOut

BLOCK_BYTES: Final = 64 << 20  # of cosines; the product is no quicker with more
MOST_NAMED: Final = 5
_ROUNDING: Final = 1e-6  # of a unit vector in float32


def scored_blocks(
    gallery: NDArray[np.float32],
    queries: NDArray[np.float32],
    left_out: LeftOut | None,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Which queries, and their cosines.

    Args:
        gallery: (G, D) float32, of unit length: see `unit_vectors`.
        queries: (Q, D) float32, of unit length.
        left_out: what each query may not find: its cosine is −inf.
        block_bytes: memory for the cosines; at least one query's are held.

    Yields:
        The rows of a block, and (B, G) float32, overwritten by the next one. Equal vectors of the
        gallery have equal cosines, which a matrix product alone doesn't promise: it may add up
        the columns at its edges in another order.
    """
    if left_out is not None:
        left_out.check(len(queries), len(gallery))
    rows_at_once = max(1, min(len(queries), block_bytes // max(1, 4 * len(gallery))))
    memory = np.empty((rows_at_once, len(gallery)), dtype=np.float32)
    copies, originals = _copies(gallery)
    for start in range(0, len(queries), rows_at_once):
        rows = slice(start, min(start + rows_at_once, len(queries)))
        cosines = np.matmul(queries[rows], gallery.T, out=memory[: rows.stop - start])
        cosines[:, copies] = cosines[:, originals]
        if left_out is not None:
            own = left_out.queries[rows, None] == left_out.gallery
            np.copyto(cosines, -np.inf, where=own)
        yield rows, cosines


def unit_vectors(vectors: NDArray[Any], whose: str) -> NDArray[np.float32]:
    """Vectors at unit length; the same array where they are of it, a vector of zeros stays one.

    Args:
        vectors: (N, D) of any float type.
        whose: what to call them in an error: `the queries`, `the gallery`, a file.

    Raises:
        VectorsInvalid: not two-dimensional, not numbers, or some hold NaN or infinity.
    """
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        raise VectorsInvalid(
            f"the vectors of {whose} are an array of shape {vectors.shape} and type "
            f"{vectors.dtype}, not (images, values) of numbers"
        )
    squares = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
    if len(broken := np.flatnonzero(~np.isfinite(squares))):
        named = ", ".join(f"{row:,}" for row in broken[:MOST_NAMED].tolist())
        raise VectorsInvalid(
            f"{len(broken):,} of the {len(vectors):,} vectors of {whose} hold NaN or infinity: "
            f"row {named}{' …' if len(broken) > MOST_NAMED else ''}, counted from 0",
            remedy="Embed these images again, or leave them out; they can't be ranked.",
        )
    lengths = np.sqrt(squares)
    if vectors.dtype == np.float32 and np.all(np.abs(lengths - 1) <= _ROUNDING):
        return vectors
    lengths[lengths == 0] = 1
    unit = np.empty(vectors.shape, dtype=np.float32)
    np.divide(vectors, lengths[:, None], out=unit, casting="same_kind")  # no copy in float64
    return unit


def directions(vectors: Any, shown: str) -> NDArray[np.float32]:
    """Vectors that somebody brings, at unit length; see `unit_vectors`.

    Args:
        vectors: (N, D) of numbers, one at least.
        shown: what they are called where they don't fit.

    Raises:
        VectorsInvalid: another shape or type, or rows that aren't finite or have no direction.
    """
    values = np.asarray(vectors)
    if values.ndim != 2 or values.dtype.kind not in "iuf" or 0 in values.shape:
        raise VectorsInvalid(
            f"{shown}: vectors must be numbers of shape (N, D), not {values.dtype} {values.shape}"
        )
    unit = unit_vectors(values, shown)
    if nowhere := np.flatnonzero(~unit.any(axis=1)).tolist():
        raise VectorsInvalid(
            f"{shown}: {len(nowhere):,} of {len(values):,} vectors hold only zeros, the first in "
            f"row {nowhere[0]}, counted from 0",
            remedy="Mend them, or take their rows out.",
        )
    return unit


def digests(vectors: NDArray[Any]) -> list[bytes]:
    """16 bytes for each row, the same for rows that are the same to the last bit."""
    return [hashlib.blake2b(row, digest_size=16).digest() for row in np.ascontiguousarray(vectors)]


def _copies(vectors: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of rows that were there before, and where they were first."""
    first: dict[bytes, int] = {}
    originals = np.array([first.setdefault(x, i) for i, x in enumerate(digests(vectors))], np.int64)
    copies = np.flatnonzero(originals != np.arange(len(vectors)))
    return copies, originals[copies]
