"""Fragments of `tiles` whose files are gone, cut short or garbled."""

from __future__ import annotations

from dataclasses import dataclass

import lance
import pyarrow as pa

from microtome.atlas.storage import reason

DAMAGE = (OSError, RuntimeError, pa.ArrowInvalid)
"""What Lance raises where a file can't be read."""


@dataclass(frozen=True, slots=True)
class Damaged:
    """A fragment that can't be read.

    Attributes:
        fragment_id: its number.
        paths: its files, relative to the table's folder.
        message: what reading them said.
    """

    fragment_id: int
    paths: tuple[str, ...]
    message: str


def find_damaged(tiles: lance.LanceDataset, columns: list[str], uri: str) -> list[Damaged]:
    """Read some columns of every fragment; returns those where that fails.

    Args:
        tiles: a version of `tiles`.
        columns: those to read; damage elsewhere isn't seen.
        uri: of the atlas, as its user named it.
    """
    found = []
    for fragment in tiles.get_fragments():
        try:
            for _ in fragment.scanner(columns=columns, batch_size=1 << 14).to_batches():
                pass
        except DAMAGE as error:
            paths = tuple(f"data/{file.path}" for file in fragment.metadata.files)
            found.append(Damaged(fragment.fragment_id, paths, reason(error, uri)))
    return found
