"""Few large fragments instead of many small ones, and no more versions than readers may need.

Every slide arrives in fragments of its own, and every wave makes a version. Compaction writes them
together in steps of bounded size, each one commit, so a job that is killed loses one step.

An older version goes when a newer one has been there for the retention time, whatever its own
age: a reader that opened the newest version has at least so long before its files go. Tagged
versions stay.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import lance
import pyarrow as pa

from microtome.atlas.tables import newest_table
from microtome.atlas.writer import Writer

FRAGMENT_BYTES = 1 << 29  # of vectors, before compression
FRAGMENT_ROWS = 1 << 20  # at most
STEP_FRAGMENTS = 4  # full fragments that one step writes, so 2 GB of vectors
MAX_DELETED = 0.1  # of a fragment's rows; with more it is written anew


def compact(writer: Writer, table: str, progress: Callable[[int], None] = lambda _: None) -> int:
    """Write small fragments of a table together, and without the rows that were deleted.

    Args:
        writer: of the atlas.
        table: its name.
        progress: told how many fragments each step took away.

    Returns:
        How many fragments were written anew.

    Raises:
        AtlasWriteFailed: the store refuses; running again goes on.
        LeaseLost: another job took over.
    """
    dataset = newest_table(writer.uri, table)
    rows = fragment_rows(dataset.schema)
    compacted = 0
    for _ in dataset.get_fragments():  # as many steps as there can be
        removed = writer.transact(table, partial(_compact_some, rows))
        if not removed:
            break
        compacted += removed
        progress(removed)
    return compacted


def fragment_rows(schema: pa.Schema) -> int:
    """Rows of a full fragment: so many that its vectors have a size that is good to handle."""
    lists = [kind for kind in schema.types if pa.types.is_fixed_size_list(kind)]
    row_bytes: int = sum(kind.list_size * kind.value_type.bit_width // 8 for kind in lists)
    return min(FRAGMENT_ROWS, FRAGMENT_BYTES // max(1, row_bytes))


def prune(writer: Writer, table: str, retention_s: float) -> int:
    """Remove versions that were superseded longer ago than the retention time; returns how many.

    Raises:
        AtlasWriteFailed: the store refuses; running again goes on.
        LeaseLost: another job took over.
    """
    removed: int = writer.transact(table, partial(_prune, retention_s))
    return removed


def superseded(dataset: lance.LanceDataset, retention_s: float) -> list[int]:
    """Untagged versions that a newer one has followed for longer than the retention time."""
    tagged = {tag["version"] for tag in dataset.tags.list().values()}
    versions = sorted(dataset.versions(), key=lambda version: version["version"])
    latest_s = time.time() - retention_s
    return [
        old["version"]
        for old, new in pairwise(versions)
        if new["timestamp"].timestamp() < latest_s and old["version"] not in tagged
    ]


def _compact_some(rows: int, dataset: lance.LanceDataset) -> int:
    metrics = dataset.optimize.compact_files(
        target_rows_per_fragment=rows,
        max_source_rows=STEP_FRAGMENTS * rows,
        materialize_deletions_threshold=MAX_DELETED,
    )
    return int(metrics.fragments_removed)


def _prune(retention_s: float, dataset: lance.LanceDataset) -> int:
    old = superseded(dataset, retention_s)
    if not old:
        return 0
    removed = dataset.cleanup_old_versions(versions=old, error_if_tagged_old_versions=False)
    return int(removed.old_versions)
