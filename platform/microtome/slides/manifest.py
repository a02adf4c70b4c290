"""The manifest: what the people who own the slides know of them, as CSV or Parquet.

| column     | meaning                                                                     |
|------------|-----------------------------------------------------------------------------|
| `uri`      | where the slide lies; relative to the manifest's folder, or as it was found |
| `slide_id` | its name; alone, it picks a found slide; beside `uri`, it names it          |
| `case_id`  | patient or case, optional                                                   |
| `mpp`      | µm per level-0 pixel for slides that don't say, optional                    |
| any other  | string, whole number, number or boolean; dates become ISO 8601 text         |

In a CSV an empty cell, `NA`, `N/A`, `NaN` or `null` means that nothing is known. So does a further
column's number that isn't finite, wherever it stands.
"""

from __future__ import annotations

import math
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import pyarrow as pa

from microtome.errors import ManifestError
from microtome.slides.slide import Scalar, SlideRef
from microtome.slides.storage import is_remote, local_path
from microtome.slides.tables import read_table

KEYS = ("uri", "slide_id", "case_id")
MAX_MPP = 100.0
SHOWN_ROWS = 5

RESERVED = frozenset(
    {
        "content_id",
        "format",
        "height_px",
        "levels",
        "mpp_source",
        "objective",
        "properties",
        "reader",
        "run_id",
        "score",
        "sharpness",
        "size_bytes",
        "size_px",
        "stamp",
        "thumbnail",
        "tile_id",
        "tiles",
        "tissue",
        "tissue_mm2",
        "vendor",
        "width_px",
        "x",
        "y",
        *("attempts", "bytes_read", "cause", "message"),
        *("planned_tiles", "seconds", "status", "stored_tiles"),
        *("case_id", "mpp", "slide_id", "uri"),
    }
)
"""Columns of the atlas's own tables, and what its ledger says beside them of each slide; a manifest
fills only the last four."""
RESERVED_PREFIXES = ("vector_", "_")


@dataclass(frozen=True, slots=True)
class FoundSlide:
    """A slide that a SOURCE holds.

    Attributes:
        slide_id: relative to its SOURCE.
        uri: absolute path or fsspec URI.
        shown: as the user would name it.
        stamp: as in `SlideRef`.
        aliases: further URIs that mean it: a DICOM series' files and folder.
    """

    slide_id: str
    uri: str
    shown: str
    stamp: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a manifest; `number` counts from 1 below the header."""

    number: int
    uri: str | None
    slide_id: str | None
    case_id: str | None
    mpp: float | None
    columns: Mapping[str, Scalar]

    @property
    def shown(self) -> str:
        """The row as an error names it."""
        return f"row {self.number} ({self.uri or self.slide_id})"


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest that is right in itself.

    Attributes:
        location: as the user named it; empty for none.
        rows: in the file's order.
        columns: types of the further columns.
        tells_cases: whether it has a column `case_id`.
    """

    location: str
    rows: tuple[Row, ...]
    columns: pa.Schema
    tells_cases: bool = False

    @classmethod
    def empty(cls) -> Self:
        """No manifest: every slide is named by its place."""
        return cls("", (), pa.schema([]))

    def applied(self, found: Sequence[FoundSlide]) -> list[tuple[SlideRef, str]]:
        """Each found slide with what the manifest says of it, and how to show it to the user.

        Raises:
            ManifestError: a row names no found slide, or two rows name one.
        """
        rows, unknown = self.matched(found)
        if unknown:
            raise self._unknown(unknown)
        nothing = dict.fromkeys(self.columns.names)
        refs = []
        for slide in found:
            row = rows.get(slide.uri)
            ref = SlideRef(
                slide_id=(row and row.slide_id) or slide.slide_id,
                uri=slide.uri,
                case_id=row.case_id if row else None,
                mpp=row.mpp if row else None,
                columns=row.columns if row else nothing,
                stamp=slide.stamp,
            )
            refs.append((ref, slide.shown))
        return refs

    def matched(self, found: Sequence[FoundSlide]) -> tuple[dict[str, Row], list[Row]]:
        """Rows by the URI of the slide they mean, and those that mean none.

        Raises:
            ManifestError: two rows name one slide.
        """
        by_uri = {uri: one.uri for one in found for uri in (*one.aliases, one.uri)}
        by_id = {one.slide_id: one.uri for one in found}
        matched: dict[str, Row] = {}
        unknown = []
        for row in self.rows:
            places = [by_uri.get(place) for place in self._places(row.uri)]
            uri = next(filter(None, places), None) if row.uri else by_id.get(str(row.slide_id))
            if uri is None:
                unknown.append(row)
            elif uri in matched:
                raise ManifestError(
                    f"{self.location}: {matched[uri].shown} and {row.shown} name one slide",
                    remedy="Keep one row for each slide.",
                )
            else:
                matched[uri] = row
        return matched, unknown

    def _places(self, uri: str | None) -> Iterator[str]:
        """The absolute places that a manifest's `uri` may mean, the likeliest first."""
        if not uri:
            return
        if is_remote(uri):
            yield uri.rstrip("/")
            return
        folder = posixpath.dirname(self.location)
        if not is_remote(self.location):
            yield local_path(posixpath.join(folder, uri))
            yield local_path(uri)
        else:
            yield posixpath.normpath(posixpath.join(folder, uri)).replace(":/", "://", 1)

    def _unknown(self, rows: Sequence[Row]) -> ManifestError:
        names = "; ".join(row.shown for row in rows[:SHOWN_ROWS])
        more = f" and {len(rows) - SHOWN_ROWS} more" if len(rows) > SHOWN_ROWS else ""
        return ManifestError(
            f"{self.location} names {len(rows)} that no SOURCE holds: {names}{more}",
            remedy="Add the SOURCE they lie in, correct them (a uri is relative to the manifest's "
            "folder, a slide_id to its SOURCE), or remove the rows.",
        )


def read_manifest(location: str) -> Manifest:
    """Read and check a manifest.

    Args:
        location: path or URI of a `.csv` or `.parquet` file.

    Raises:
        SourceNotFound, SourceUnreadable: it isn't there, or the store refused.
        ManifestError: no key column, a wrong type or value, or a name that the atlas uses itself;
            the message names the column and the row.
    """
    table = read_table(location, texts=KEYS)
    names = table.column_names
    if not {"uri", "slide_id"} & set(names):
        raise ManifestError(
            f"{location} has neither a column uri nor slide_id, but {', '.join(names) or 'none'}",
            remedy="Name each slide by uri, by slide_id, or by both; columns are separated by "
            "commas.",
        )
    further = [name for name in names if name not in {*KEYS, "mpp"}]
    for name in further:
        _check_name(location, name)
    schema = pa.schema([table.schema.field(name) for name in further])
    rows = tuple(
        _row(location, number, values, further)
        for number, values in enumerate(table.to_pylist(), start=1)
    )
    return Manifest(location, rows, schema, "case_id" in names)


def _check_name(location: str, name: str) -> None:
    plain = name.lower()
    if plain in RESERVED or plain.startswith(RESERVED_PREFIXES):
        problem = "is a name that the atlas uses itself"
    elif not name.strip() or "." in name:
        problem = "can't be a column's name: it is empty or holds a dot"
    else:
        return
    raise ManifestError(f"{location}: column {name!r} {problem}", remedy="Rename the column.")


def _row(location: str, number: int, values: dict[str, Any], further: Sequence[str]) -> Row:
    uri, slide_id, case_id = (values.get(key) or None for key in KEYS)
    if not (uri or slide_id):
        raise ManifestError(
            f"{location}: row {number} names no slide: its uri or slide_id is empty",
            remedy="Fill it or remove the row.",
        )
    columns = {name: _finite(values[name]) for name in further}
    row = Row(number, uri, slide_id, case_id, None, columns)
    mpp = values.get("mpp")
    return row if mpp is None else replace(row, mpp=_mpp(location, row, mpp))


def _finite(value: Scalar) -> Scalar:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _mpp(location: str, row: Row, value: Scalar) -> float:
    """A cell's mpp; one cell that isn't a number makes the whole column text, so text is parsed."""
    try:
        mpp = math.nan if value is None or isinstance(value, bool) else float(value)
    except ValueError:
        mpp = math.nan
    if not 0 < mpp <= MAX_MPP:
        raise ManifestError(
            f"{location}: column mpp of {row.shown} must be a number above 0 and at most "
            f"{MAX_MPP:g}, not {value!r}",
            remedy="Give µm per pixel of the slide's finest level, or leave the cell empty.",
        )
    return mpp
