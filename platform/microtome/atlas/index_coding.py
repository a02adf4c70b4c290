"""Which vectors of `tiles` are to be coded for an index, and coding them; knows no Ray.

Centroids are found once, in one process; with them each fragment can be coded anywhere. `Coder` is
the seam: `code_here` does it in this process, `engine.index_coding` on a cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from microtome.atlas.atlas import Atlas
from microtome.atlas.index_codes import Codes
from microtome.atlas.schema import vector_column
from microtome.atlas.storage import location
from microtome.atlas.tables import lost_table, open_table, reading
from microtome.atlas.vector_index import unit_vectors

BLOCK_ROWS = 16_384
_NONE = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Piece:
    """One fragment.

    Attributes:
        fragment: its id.
        rows: how many it has.
        known: (N,) int64, those of its rows that are coded already.
    """

    fragment: int
    rows: int
    known: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CodingWork:
    """Vectors to be coded; small, and safe to send.

    Attributes:
        uri: of the atlas, meaning the same in every process.
        shown_uri: of the atlas, as the user named it.
        version: of `tiles`.
        model_id: whose vectors.
        pieces: fragments, in the order in which they are coded.
    """

    uri: str
    shown_uri: str
    version: int
    model_id: str
    pieces: tuple[Piece, ...]

    @classmethod
    def of(
        cls,
        atlas: Atlas,
        tiles: Any,
        model_id: str,
        known: Mapping[int, NDArray[np.int64]] | None = None,
    ) -> Self:
        """The vectors of all of `tiles`, or of the fragments named, without the rows known.

        Args:
            atlas: whose they are.
            tiles: a version of its table.
            model_id: whose vectors.
            known: rows by fragment id.
        """
        pieces = [
            Piece(one.fragment_id, one.metadata.num_rows, (known or {}).get(one.fragment_id, _NONE))
            for one in tiles.get_fragments()
            if known is None or one.fragment_id in known
        ]
        return cls(location(atlas.uri), atlas.uri, tiles.version, model_id, tuple(pieces))

    @property
    def rows(self) -> int:
        """How many there are, at most: rows that have no vector count, too."""
        return sum(piece.rows - len(piece.known) for piece in self.pieces)

    def split(self, rows: int) -> list[Self]:
        """The same in parts of whole fragments, in order: of so many rows at most, or of one."""
        groups: list[list[Piece]] = []
        room = 0
        for piece in self.pieces:
            if piece.rows > room:
                groups.append([])
                room = max(rows, piece.rows)
            groups[-1].append(piece)
            room -= piece.rows
        return [replace(self, pieces=tuple(group)) for group in groups]

    def blocks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Row ids (N,) and unit vectors (N, D) that are to be coded, in the order of the rows.

        Raises:
            AtlasError: the table can't be read.
        """
        tiles: Any = open_table(self.uri, "tiles", self.version, shown_uri=self.shown_uri)
        if tiles is None:
            raise lost_table(self.shown_uri, "tiles")
        column = vector_column(self.model_id)
        with reading(self.shown_uri, "tiles"):
            for piece in self.pieces:
                scanner = tiles.scanner(
                    columns=[column],
                    with_row_id=True,
                    fragments=[tiles.get_fragment(piece.fragment)],
                    batch_size=BLOCK_ROWS,
                )
                for block in scanner.to_batches():
                    row_ids = block.column("_rowid").to_numpy().astype(np.int64)
                    fresh = pa.array(~np.isin(row_ids, piece.known, assume_unique=True))
                    rows = block.filter(pc.and_(pc.is_valid(block.column(column)), fresh))
                    yield (
                        rows.column("_rowid").to_numpy().astype(np.int64),
                        unit_vectors(rows.column(column)),
                    )


Coder = Callable[[Codes, CodingWork], int]
"""Adds the vectors of some work to codes, in its order; returns how many there were."""


def code_here(
    codes: Codes, work: CodingWork, advance: Callable[[int], None] = lambda _: None
) -> int:
    """Code in this process, with its threads.

    Args:
        codes: with their centroids.
        work: what comes to them.
        advance: told of every block how many rows it had.

    Raises:
        AtlasError: the table can't be read.
    """
    added = 0
    for row_ids, vectors in work.blocks():
        codes.add(row_ids, vectors)
        added += len(row_ids)
        advance(len(row_ids))
    return added
