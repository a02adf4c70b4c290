"""Other values for some columns of a table, without touching its rows or its other columns.

A Lance fragment is rows in several files, each with some of the columns. A new file for some
columns takes their place in one commit: rows keep their ids and their places, and an index loses
sight only of the fragments, and of the columns, that were replaced.

1. For each fragment, all values of those columns are written to a file beside its own; it has a
   place for every row that was ever in the fragment, and deleted rows are null there.
2. One commit puts the files in place, all or none. What the columns had before stays in the old
   files as dead bytes, until the next compaction.

The commit is Lance's `Update` of columns. Its `DataReplacement` does the same for one column, but
refuses a column that has a file of its own together with one that has none, as nulls do that
`add_columns` made. Neither looks whether a file has as many rows as its fragment: that is checked
here.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import lance
import numpy as np
import pyarrow as pa
from lance.file import LanceFileWriter
from lance.fragment import DataFile
from numpy.typing import NDArray

from microtome.atlas.storage import storage_options, writing
from microtome.atlas.tables import table_uri
from microtome.atlas.writer import Writer

GONE = -2  # Lance's sign for a column of a file that is nobody's any more
BATCH_ROWS = 32_768  # 32 MB of 512 float16 values


@dataclass(frozen=True, slots=True)
class ColumnFile:
    """All values of some columns of one fragment: durable, not yet visible.

    Attributes:
        fragment: its id.
        rows: it has, deleted ones included.
        file: as Lance describes it.
    """

    fragment: int
    rows: int
    file: DataFile


@dataclass(frozen=True, slots=True)
class TableVersion:
    """A table of an atlas as it was when opened.

    Attributes:
        uri: of the atlas, as the user named it.
        table: its name.
        dataset: the version.
    """

    uri: str
    table: str
    dataset: lance.LanceDataset

    def read(self, fragment: int, columns: Sequence[str]) -> Iterable[pa.Table]:
        """The rows of one fragment that aren't deleted, in their order, a batch at a time.

        The last column, `_rowaddr`, holds the row's place: see `offsets`.
        """
        batches = self.dataset.scanner(
            columns=list(columns),
            fragments=[self.dataset.get_fragment(fragment)],
            with_row_address=True,
            batch_size=BATCH_ROWS,
        ).to_batches()
        return (pa.Table.from_batches([batch]) for batch in batches)

    def write(
        self, fragment: int, columns: Sequence[str], batches: Iterable[pa.Table]
    ) -> ColumnFile:
        """Write other values for some columns of one fragment.

        Args:
            fragment: its id.
            columns: names of columns that the table has.
            batches: those columns and `_rowaddr`, of all rows that `read` gives, in that order.

        Raises:
            AtlasWriteFailed: the store refuses.
        """
        schema = pa.schema([self.dataset.schema.field(name) for name in columns])
        rows, name = self.dataset.get_fragment(fragment).physical_rows, f"{uuid.uuid4().hex}.lance"
        with writing(self.uri, f"the table {self.table}"):
            file = LanceFileWriter(
                f"{table_uri(self.uri, self.table)}/data/{name}",
                schema,
                version=self.dataset.data_storage_version,
                storage_options=storage_options(self.uri),
            )
            written = 0
            for batch in batches:
                places = offsets(batch)
                values = _spread(batch.select(schema.names), places - written)
                file.write_batch(values.cast(schema))
                written = int(places[-1]) + 1
            if written < rows:
                file.write_batch(
                    pa.table([pa.nulls(rows - written, f.type) for f in schema], schema)
                )
            file.close()
            return ColumnFile(fragment, rows, DataFile.create(self.dataset, name))


def _spread(values: pa.Table, places: NDArray[np.int64]) -> pa.Table:
    """Each row at its place; nulls between them."""
    index = np.full(places[-1] + 1, -1)
    index[places] = np.arange(len(places))
    return values.take(pa.array(index, mask=index < 0))


def offsets(batch: pa.Table) -> NDArray[np.int64]:
    """Places of rows within their fragment, (N,) int64, from the column `_rowaddr`."""
    places: NDArray[np.int64] = (batch["_rowaddr"].to_numpy() & 0xFFFFFFFF).astype(np.int64)
    return places


def counted(rows: pa.Table, keys: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """How many rows of each key lie in each fragment: keys, the fragment's id, the count.

    Args:
        rows: the key columns and `_rowaddr`.
        keys: their names.
    """
    fragments = pa.array((rows["_rowaddr"].to_numpy() >> 32).astype(np.int64))
    grouped = rows.select(list(keys)).append_column("fragment", fragments)
    counts = grouped.group_by([*keys, "fragment"]).aggregate([([], "count_all")])
    yield from zip(
        *counts.select([*keys, "fragment", "count_all"]).to_pydict().values(), strict=True
    )


def replace_columns(
    writer: Writer, table: str, files: Sequence[ColumnFile], message: str = ""
) -> frozenset[int]:
    """Put files in place in one commit.

    Args:
        writer: of the atlas.
        table: its name.
        files: all with the same columns, of a fragment each.
        message: stands in the transaction.

    Returns:
        Ids of the fragments that have the new values. One that was compacted away since its file
        was written is left out: its rows lie in another one now, with their former values.

    Raises:
        AtlasWriteFailed: the store refuses, or another writer changed the table just now.
    """
    landed: list[ColumnFile] = []

    def operation(dataset: lance.LanceDataset) -> lance.LanceOperation.BaseOperation:
        fragments = {one.fragment_id: one.metadata for one in dataset.get_fragments()}
        landed[:] = [
            file
            for file in files
            if file.fragment in fragments and fragments[file.fragment].physical_rows == file.rows
        ]
        return lance.LanceOperation.Update(
            updated_fragments=[_with_file(fragments[one.fragment], one.file) for one in landed],
            fields_modified=sorted({number for one in landed for number in one.file.fields}),
            update_mode="rewrite_columns",
        )

    if files:
        writer.commit(table, operation, message)
    return frozenset(file.fragment for file in landed)


def _with_file(fragment: lance.FragmentMetadata, new: DataFile) -> lance.FragmentMetadata:
    """A fragment that has some columns in a new file, and no longer where it had them."""
    kept = []
    for file in fragment.files:
        fields = [GONE if number in new.fields else number for number in file.fields]
        if set(fields) != {GONE}:
            kept.append(_with_fields(file, fields))
    return replace(fragment, files=[*kept, new])


def _with_fields(file: DataFile, fields: list[int]) -> DataFile:
    changed = copy(file)
    changed.fields = fields
    return changed
