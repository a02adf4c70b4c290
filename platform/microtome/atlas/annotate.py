"""A manifest's corrections reach the slides that are in the atlas already.

1. Columns that are new are added, as nulls, to `slides` and then to `tiles`.
2. `slides` gets the manifest's values, in one commit.
3. `tiles` is made to agree with `slides`, in one commit.

A job that is killed between two of these leaves tiles that contradict their slides; the same
command, or any other annotation of the same columns, finishes what it began, and until then
`microtome verify` says so. Vectors aren't touched, and an index loses sight only of the columns
and fragments in which values changed, see `columns`.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from microtome.atlas.atlas import Atlas, add_columns
from microtome.atlas.columns import TableVersion, replace_columns
from microtome.atlas.forgotten import Forgotten
from microtome.atlas.recovery import recover
from microtome.atlas.runs import RunTotals, finish_run, start_run
from microtome.atlas.schema import SLIDES
from microtome.atlas.writer import Writer
from microtome.errors import AtlasError, AtlasMismatch, AtlasWriteFailed, ManifestError
from microtome.slides.manifest import FoundSlide, Manifest, Row


@dataclass(frozen=True, slots=True)
class Annotated:
    """What an annotation changed.

    Attributes:
        run_id: its row in `runs`; empty where nothing was to be changed.
        slides: rows of `slides` that changed, by column.
        tiles: rows of `tiles` that changed, by column.
        added: columns that are new.
        named: how many slides of the atlas the manifest names.
        unknown: its rows that name no slide of the atlas.
    """

    run_id: str = ""
    slides: Mapping[str, int] = field(default_factory=dict)
    tiles: Mapping[str, int] = field(default_factory=dict)
    added: tuple[str, ...] = ()
    named: int = 0
    unknown: tuple[str, ...] = ()


def annotate(writer: Writer, manifest: Manifest) -> Annotated:
    """Write a manifest's columns, and its cases, over those of the slides it names.

    An empty cell takes the value away. Slides that it doesn't name, columns that it hasn't, and
    the resolution of a slide (its column `mpp`), stay as they are.

    Raises:
        AtlasMismatch: a column holds values of another type in the atlas.
        ManifestError: it names none of the atlas's slides, one twice, or one by another name; or
            it gives one to a case that was forgotten.
        AtlasWriteFailed: the store refuses; running again finishes what was begun.
    """
    atlas = Atlas.open(writer.uri)
    recover(writer, atlas)
    rows, unknown = _rows_by_slide(atlas, manifest)
    _check_cases(writer.uri, manifest, rows)
    shown = tuple(row.shown for row in unknown)
    types = _types(atlas, manifest)
    if not types.names:
        return Annotated(named=len(rows), unknown=shown)
    values = _values(rows, types)
    run_id = start_run(writer, "annotate", {"manifest": manifest.location})
    try:
        for table in ("slides", "tiles"):
            further = pa.schema([one for one in types if one.name not in SLIDES.names])
            writer.transact(table, partial(add_columns, writer.uri, further))
        slides = set_columns(writer, "slides", values)
        tiles = agree_with_slides(writer, types.names)
    except BaseException:
        with suppress(AtlasError):  # the first error says more
            finish_run(writer, run_id, "failed", RunTotals())
        raise
    finish_run(writer, run_id, "finished", RunTotals())
    added = tuple(set(types.names) - {*atlas.columns.names, "case_id"})
    return Annotated(run_id, slides, tiles, tuple(sorted(added)), len(rows), shown)


def agree_with_slides(writer: Writer, columns: Sequence[str]) -> Counter[str]:
    """Give every tile the values of its slide; returns how many rows changed, by column.

    Raises:
        AtlasWriteFailed: the store refuses.
    """
    slides = Atlas.open(writer.uri).slides
    return set_columns(writer, "tiles", slides.to_table(columns=["slide_id", *columns]))


def set_columns(writer: Writer, table: str, values: pa.Table) -> Counter[str]:
    """Set columns of the rows of some slides, all in one commit.

    Args:
        writer: of the atlas.
        table: one with a column `slide_id`.
        values: `slide_id`, each once, and columns of the table with their types.

    Returns:
        How many rows changed, by column; columns without a change are left out.

    Raises:
        AtlasWriteFailed: the store refuses.
    """
    now = TableVersion(writer.uri, table, Atlas.open(writer.uri).dataset(table))
    changes: Counter[str] = Counter()
    files = []
    for fragment in now.dataset.get_fragments():
        changed = _changed(now, fragment.fragment_id, values)
        if changed.counts:
            changes += changed.counts
            names = list(changed.counts)
            files.append(now.write(fragment.fragment_id, names, [changed.rows]))
    if len(replace_columns(writer, table, files, "annotate")) < len(files):
        raise AtlasWriteFailed(
            f"another writer changed the table {table} of {writer.uri} at the same moment",
            remedy="Nothing of it is visible, or all of it; run again.",
        )
    return changes


@dataclass(frozen=True, slots=True)
class _Changed:
    """Rows of one fragment with their new values, and how many of them changed, by column."""

    rows: pa.Table
    counts: Counter[str]


def _changed(now: TableVersion, fragment: int, values: pa.Table) -> _Changed:
    names = values.column_names[1:]
    whose = pa.concat_tables(now.read(fragment, ["slide_id"]))
    at = pc.index_in(
        whose["slide_id"].combine_chunks(), value_set=values["slide_id"].combine_chunks()
    )
    counts: Counter[str] = Counter()
    if at.null_count == len(at):
        return _Changed(whose, counts)
    rows = pa.concat_tables(now.read(fragment, names))
    own = pa.array(np.arange(len(rows), dtype=np.int32) + np.int32(len(values)))
    for name in names:
        old, new = rows[name].combine_chunks(), values[name].combine_chunks()
        became = pa.concat_arrays([new, old]).take(pc.coalesce(at, own))
        if differing := _differing(old, became):
            counts[name] = differing
            rows = rows.set_column(rows.schema.get_field_index(name), name, became)
    return _Changed(rows, counts)


def _differing(old: pa.Array, new: pa.Array) -> int:
    """How many values differ; two nulls don't."""
    unequal = pc.fill_null(pc.not_equal(old, new), False)
    one_is_null = pc.not_equal(pc.is_null(old), pc.is_null(new))
    return int(pc.sum(pc.or_(unequal, one_is_null)).as_py() or 0)


def _rows_by_slide(atlas: Atlas, manifest: Manifest) -> tuple[dict[str, Row], list[Row]]:
    """The manifest's rows by slide id, and those that name no slide of the atlas."""
    held = atlas.slides.to_table(columns=["slide_id", "uri", "format"]).to_pylist()
    names = {one["uri"]: one["slide_id"] for one in held}
    matched, missing = manifest.matched([*_as_found(held)])
    rows = {names[uri]: row for uri, row in matched.items()}
    unknown = []
    for row in missing:
        # A slide that was moved since it was indexed is known by its name alone.
        if row.slide_id in names.values() and row.slide_id not in rows:
            rows[row.slide_id] = row
        else:
            unknown.append(row)
    for slide_id, row in rows.items():
        if row.slide_id not in {None, slide_id}:
            raise ManifestError(
                f"{manifest.location}: {row.shown} is to be called {row.slide_id}, but the atlas "
                f"knows it as {slide_id}",
                remedy="Index it again with this manifest to rename it, or leave the column "
                "slide_id out.",
            )
    if not rows:
        raise ManifestError(
            f"{manifest.location} names no slide of the atlas {atlas.uri}",
            remedy="`microtome slides` lists their slide ids and places.",
        )
    return rows, unknown


def _check_cases(uri: str, manifest: Manifest, rows: Mapping[str, Row]) -> None:
    """Raise `ManifestError` where a slide would be of a forgotten case, and go with it."""
    forgotten = Forgotten.of(uri)
    for row in rows.values():
        if manifest.tells_cases and forgotten.names("", case_id=row.case_id):
            raise ManifestError(
                f"{manifest.location}: the case of {row.shown} was forgotten",
                remedy="Correct its case_id, or forget the slide, too, with `microtome forget`.",
            )


def _as_found(held: Sequence[Mapping[str, Any]]) -> Iterator[FoundSlide]:
    """The atlas's slides as a manifest names them; a DICOM series also by its folder."""
    folders = Counter(posixpath.dirname(one["uri"]) for one in held)
    for one in held:
        folder = posixpath.dirname(one["uri"])
        alone = one["format"] == "dicom" and folders[folder] == 1
        yield FoundSlide(one["slide_id"], one["uri"], one["slide_id"], "", (folder,) * alone)


def _types(atlas: Atlas, manifest: Manifest) -> pa.Schema:
    """The columns to write; of a type that the atlas has for them, or may get."""
    fields = [pa.field("case_id", pa.string())] if manifest.tells_cases else []
    for column in manifest.columns:
        held = atlas.columns.field(column.name) if column.name in atlas.columns.names else column
        said = [row.columns[column.name] for row in manifest.rows]
        fits = held.type == column.type or all(value is None for value in said)
        if not fits and not (pa.types.is_integer(column.type) and pa.types.is_floating(held.type)):
            raise AtlasMismatch(
                f"the column {column.name!r} of {manifest.location} holds {column.type}, in the "
                f"atlas {atlas.uri} it holds {held.type}",
                remedy="Write its values as the atlas has them, or give the column another name.",
            )
        fields.append(pa.field(column.name, held.type))
    return pa.schema(fields)


def _values(rows: Mapping[str, Row], types: pa.Schema) -> pa.Table:
    """What the manifest says of each slide."""
    said: dict[str, list[Any]] = {
        name: [row.case_id if name == "case_id" else row.columns[name] for row in rows.values()]
        for name in types.names
    }
    return pa.table(
        {"slide_id": pa.array(list(rows), pa.string())}
        | {name: pa.array(values, types.field(name).type) for name, values in said.items()}
    )
