"""Fragments of `tiles` whose files are gone, cut short or garbled."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial

import lance
import pyarrow as pa

from microtome.atlas.storage import is_damage, patiently, reason
from microtome.errors import AtlasError

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


def find_damaged(
    tiles: lance.LanceDataset,
    columns: list[str],
    uri: str,
    among: Collection[int] | None = None,
) -> list[Damaged]:
    """Read some columns of every fragment; returns those where that fails.

    Args:
        tiles: a version of `tiles`.
        columns: those to read; damage elsewhere isn't seen.
        uri: of the atlas, as its user named it.
        among: numbers of the fragments to read; all, unless given.

    Raises:
        AtlasError: the store doesn't let a fragment be read, so nobody knows whether it is sound.
    """
    found = []
    for fragment in tiles.get_fragments():
        if among is not None and fragment.fragment_id not in among:
            continue
        try:
            patiently(partial(_read, fragment, columns))
        except DAMAGE as error:
            if not is_damage(error):
                raise AtlasError(
                    f"the table tiles of {uri} can't be read: {reason(error, uri)}",
                    remedy="Nothing says that its files are damaged: run again when the store "
                    "answers; what stays unreadable must come from a backup.",
                ) from error
            paths = tuple(f"data/{file.path}" for file in fragment.metadata.files)
            found.append(Damaged(fragment.fragment_id, paths, reason(error, uri)))
    return found


def _read(fragment: lance.LanceFragment, columns: list[str]) -> None:
    for _ in fragment.scanner(columns=columns, batch_size=1 << 14).to_batches():
        pass
