"""Taking rows out of fragments: first out of sight, later out of the files.

A deletion of Lance's own keeps its SQL in the transaction's file, and with it the name that was
to go. So rows are marked as deleted fragment by fragment, and the commit says only which.
"""

from __future__ import annotations

import lance
import pyarrow as pa
import pyarrow.compute as pc
from lance.fragment import LanceFragment, write_fragments

from microtome.atlas.storage import storage_options


def fragments_with(dataset: lance.LanceDataset, where: str) -> list[int]:
    """Ids of the fragments that hold rows which match an SQL filter."""
    rows = dataset.scanner(columns=[], filter=where, with_row_address=True).to_table()
    numbers = pc.unique(pc.shift_right(rows["_rowaddr"].cast("int64"), 32))
    return sorted(numbers.to_pylist())


def deletion(dataset: lance.LanceDataset, where: str) -> lance.LanceOperation.BaseOperation:
    """The operation that takes the rows out of sight which match an SQL filter."""
    removed, updated = [], []
    for number in fragments_with(dataset, where):
        rest = dataset.get_fragment(number).delete(where)
        if rest is None:
            removed.append(number)
        else:
            updated.append(rest)
    return lance.LanceOperation.Update(removed_fragment_ids=removed, updated_fragments=updated)


def rewritten(
    dataset: lance.LanceDataset, fragment: LanceFragment, where: str | None = None
) -> list[lance.FragmentMetadata]:
    """The live rows of a fragment, of those that match an SQL filter, in new files.

    Args:
        dataset: the version that the fragment is of; its columns are written.
        fragment: one of its fragments.
        where: rows to keep.
    """
    if not fragment.count_rows(where):
        return []
    return written(dataset, fragment.scanner(filter=where).to_reader())


def written(
    dataset: lance.LanceDataset, rows: pa.Table | pa.RecordBatchReader
) -> list[lance.FragmentMetadata]:
    """Rows with a version's columns, durable and visible to nobody; none where there are none."""
    if isinstance(rows, pa.Table) and not len(rows):
        return []
    fragments: list[lance.FragmentMetadata] = write_fragments(
        rows, dataset, mode="append", storage_options=storage_options(dataset.uri)
    )
    return fragments


def without_deleted(dataset: lance.LanceDataset) -> lance.LanceOperation.BaseOperation:
    """The operation that writes each fragment anew whose files hold rows that were deleted."""
    removed, arriving = [], []
    for fragment in dataset.get_fragments():
        if fragment.metadata.deletion_file is not None:
            removed.append(fragment.fragment_id)
            arriving += rewritten(dataset, fragment)
    return lance.LanceOperation.Update(removed_fragment_ids=removed, new_fragments=arriving)
