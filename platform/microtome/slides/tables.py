"""Tables that people bring, CSV or Parquet, as Arrow with few and plain types."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
from pyarrow import csv, parquet

from microtome.errors import ManifestError
from microtome.slides.listing import extension
from microtome.slides.storage import explained, filesystem_of

ALLOWED = "text, whole numbers, numbers, true/false and dates"


def read_table(location: str, texts: Sequence[str]) -> pa.Table:
    """Read a table; types are inferred from a CSV, and dates and times become ISO 8601 text.

    Args:
        location: path or URI of a `.csv` or `.parquet` file.
        texts: columns that are text whatever they look like, so that `0012` stays `0012`.

    Returns:
        Columns of string, int64, float64 or bool.

    Raises:
        SourceNotFound, SourceUnreadable: it isn't there, or the store refused.
        ManifestError: not such a file, two columns of one name, or a column of another type.
    """
    filesystem, path = filesystem_of(location)
    with explained(location):
        content = filesystem.cat_file(path)
    try:
        table = _parsed(location, content, texts)
    except pa.ArrowInvalid as error:
        raise ManifestError(
            f"{location} can't be read: {str(error).splitlines()[0]}",
            remedy="It must be CSV with a header line, in UTF-8 and separated by commas, or "
            "Parquet.",
        ) from None
    _refuse_twins(location, table.column_names)
    columns = {
        name: _plain(location, name, table[name], name in texts) for name in table.schema.names
    }
    return pa.table(columns)


def _parsed(location: str, content: bytes, texts: Sequence[str]) -> pa.Table:
    match extension(location):
        case "csv":
            options = csv.ConvertOptions(
                column_types=dict.fromkeys(texts, pa.string()), strings_can_be_null=True
            )
            return csv.read_csv(io.BytesIO(content), convert_options=options)
        case "parquet" | "pq":
            return parquet.read_table(pa.BufferReader(content))
    raise ManifestError(f"{location} must end in .csv or .parquet")


def _refuse_twins(location: str, names: Sequence[str]) -> None:
    """SQL engines that read the atlas don't tell `Stain` from `stain`."""
    twins = [name for name, count in Counter(name.lower() for name in names).items() if count > 1]
    if twins:
        raise ManifestError(
            f"{location} has two columns called {twins[0]!r}", remedy="Rename or remove one."
        )


def _plain(location: str, name: str, column: pa.ChunkedArray, text: bool) -> pa.ChunkedArray:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_temporal(kind) and not pa.types.is_duration(kind):
        return pa.chunked_array([_iso(column)])
    wanted = pa.string() if text else _plain_type(kind)
    try:
        if wanted is not None:
            return column.cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        pass
    raise ManifestError(
        f"{location}: column {name!r} is of type {kind}",
        remedy=f"Columns hold {ALLOWED}, in UTF-8; cast the column or leave it out.",
    )


def _plain_type(kind: pa.DataType) -> pa.DataType | None:
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind):
        return pa.string()
    if pa.types.is_integer(kind):
        return pa.int64()
    if pa.types.is_floating(kind):
        return pa.float64()
    return pa.bool_() if pa.types.is_boolean(kind) else None


def _iso(column: pa.ChunkedArray) -> pa.Array:
    values = (value and value.isoformat() for value in column.to_pylist())
    return pa.array(values, pa.string())
