"""What must hold of indices: Lance's own, codes of vectors, and mosaics of slides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from microtome.atlas.derived import IndexUnusable
from microtome.atlas.evidence import Evidence
from microtome.atlas.findings import Finding
from microtome.atlas.index_files import newest_card
from microtome.atlas.schema import TABLES
from microtome.atlas.stored_mosaics import open_mosaics
from microtome.atlas.vector_index import check_witnesses, open_index, stand

SLIDES_AT_ONCE: Final = 256


def indices_cover(seen: Evidence) -> Iterator[Finding]:
    """An index covers as many rows as it says; rows after it are searched without it."""
    yield from _of_tables(seen)
    for model_id in seen.models:
        yield from _of_vectors(seen, model_id)
        yield from _of_mosaics(seen, model_id)


def _of_tables(seen: Evidence) -> Iterator[Finding]:
    """Lance says of each index how many rows it covers and how many it leaves: all, together."""
    for table in TABLES:
        dataset = seen.atlas.dataset(table)
        rows = dataset.count_rows()
        for name in sorted({index.name for index in dataset.describe_indices()}):
            stats = dataset.stats.index_stats(name)
            indexed, rest = stats["num_indexed_rows"], stats["num_unindexed_rows"]
            if indexed + rest != rows:
                message = f"covers {indexed:,} rows and leaves {rest:,} of {rows:,}"
                yield Finding("indices", f"{table}.{name}", message, remedy="drop-index")


def _of_vectors(seen: Evidence, model_id: str) -> Iterator[Finding]:
    """A model's compact index is whole and of this table, and hides no vector from a search.

    Its codes are loaded only where vectors are read as well.
    """
    tiles, subject = seen.atlas.tiles, f"vectors.{model_id}"
    try:
        card = newest_card(seen.atlas.uri, model_id)
        if card is None:
            return
        check_witnesses(card.witnesses, tiles)
        index = open_index(seen.atlas, model_id) if seen.thorough else None
        standing = stand(index, tiles) if index else None
    except IndexUnusable as error:  # a search notices as well, and goes on without it
        yield Finding("indices", subject, f"of no use: {error}", "note", "drop-index")
        return
    if standing and not seen.census.strangers:
        vectors = int(seen.vectors[model_id].present.sum())
        coded, left = standing.coded_rows, standing.open_rows
        if not coded <= vectors <= coded + left:
            message = f"covers {coded:,} rows and leaves {left:,}, but {vectors:,} have a vector"
            yield Finding("indices", subject, message, remedy="drop-index")


def _of_mosaics(seen: Evidence, model_id: str) -> Iterator[Finding]:
    """A model's mosaics are whole, of this table, and stand for what they say.

    Their vectors are read only where others are as well.
    """
    subject = f"mosaics.{model_id}"
    try:
        stored = open_mosaics(seen.atlas.uri, model_id)
        if stored is None:
            return
        check_witnesses(stored.card.witnesses, seen.atlas.tiles)
        places = np.arange(len(stored) if seen.thorough else 0)
        for first in range(0, len(places), SLIDES_AT_ONCE):
            stored.vectors(places[first : first + SLIDES_AT_ONCE])
    except IndexUnusable as error:  # a search notices as well, and makes its own
        yield Finding("indices", subject, f"of no use: {error}", "note", "drop-index")
        return
    counted = np.add.reduceat(stored.weights, stored.firsts[:-1], dtype=np.int64)
    wrong = stored.slide_ids[counted != stored.tiles]
    if len(wrong):
        message = f"{len(wrong):,} stand for other numbers of tiles than they say: {wrong[0]}"
        yield Finding("indices", subject, message, remedy="drop-index")
