"""An atlas as a labelled set: its tiles, labelled by a column, kept together by case."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from microtome.atlas.atlas import Atlas
from microtome.datasets.labelled import LabelledSet, load_dataset
from microtome.datasets.samples import regions_of, samples_of
from microtome.errors import DatasetInvalid, SettingError

PREFIX: Final = "atlas:"
_TILES: Final = ["slide_id", "case_id", "x", "y"]
_SLIDES: Final = ["slide_id", "uri", "mpp", "content_id"]


def load_labelled(spec: str) -> LabelledSet:
    """Read a set of labelled images, a labelled atlas included.

    Args:
        spec: `atlas:URI#COLUMN`, or what `load_dataset` takes.

    Raises:
        SettingError: it names no kind of set, no path or no column.
        AtlasError: the atlas can't be read.
        DatasetError: see `load_dataset` and `labelled_tiles`.
    """
    if not spec.startswith(PREFIX):
        return load_dataset(spec)
    uri, hash_mark, column = spec.removeprefix(PREFIX).rpartition("#")
    if not (uri and hash_mark and column):
        raise SettingError(
            f"{spec!r} doesn't say which column holds the labels",
            remedy="Write atlas:URI#COLUMN; `microtome info` lists an atlas's columns.",
        )
    return labelled_tiles(Atlas.open(uri), column)


def labelled_tiles(atlas: Atlas, column: str) -> LabelledSet:
    """The tiles of an atlas that a manifest column labels.

    Args:
        atlas: the atlas; its slides must still lie where they were indexed.
        column: manifest column of text, whole numbers or true/false; tiles without a value are
            left out.

    Returns:
        The set. A group is a case, and where a slide has none, the slide.

    Raises:
        SettingError: no such column, or it holds fractions.
        DatasetInvalid: no tile has a label.
        AtlasError: a table can't be read.
    """
    _check_column(atlas, column)
    everything = atlas.tiles.to_table(columns=[*_TILES, column])
    tiles = everything.filter(pc.is_valid(everything[column]))
    if not len(tiles):
        raise DatasetInvalid(f"no tile of {atlas.uri} has a value of {column!r}")
    slides = atlas.slides.to_table(columns=_SLIDES)
    of_tile = slides.take(pc.index_in(tiles["slide_id"], slides["slide_id"].combine_chunks()))
    labels = pc.dictionary_encode(tiles[column].cast(pa.string()).combine_chunks())
    classes = sorted(labels.dictionary.to_pylist())
    columns = {
        "uri": of_tile["uri"],
        "region": _regions(atlas, tiles, of_tile),
        "label": pc.index_in(labels.cast(pa.string()), pa.array(classes)),
        "group": pc.coalesce(tiles["case_id"], tiles["slide_id"]),
    }
    return LabelledSet(
        f"{column} of {atlas.uri}",
        tuple(classes),
        samples_of(columns),
        atlas.grid.mpp,
        "slide" if tiles["case_id"].null_count == len(tiles) else "case",
        notes=_notes(tiles, len(everything) - len(tiles), column),
    )


def _check_column(atlas: Atlas, column: str) -> None:
    if column not in atlas.columns.names:
        raise SettingError(
            f"the atlas {atlas.uri} has no column {column!r}",
            remedy=f"It has: {', '.join(atlas.columns.names) or 'none; index it with a manifest'}.",
        )
    if pa.types.is_floating(atlas.columns.field(column).type):
        raise SettingError(
            f"the column {column!r} holds fractions, which are no classes",
            remedy="Choose a column of text, whole numbers or true/false.",
        )


def _regions(atlas: Atlas, tiles: pa.Table, of_tile: pa.Table) -> pa.StructArray:
    fields: dict[str, Any] = {
        "x": tiles["x"],
        "y": tiles["y"],
        "tile_px": pa.repeat(pa.scalar(atlas.grid.tile_px), len(tiles)),
        "mpp": pa.repeat(pa.scalar(atlas.grid.mpp), len(tiles)),
        "slide_mpp": of_tile["mpp"],
        "content_id": of_tile["content_id"],
    }
    return regions_of(fields)


def _notes(tiles: pa.Table, without: int, column: str) -> tuple[str, ...]:
    notes = []
    if without:
        notes.append(f"{without:,} tiles have no {column} and were left out")
    if alone := tiles["case_id"].null_count:
        notes.append(f"{alone:,} tiles have no case: their slide stands for it")
    return tuple(notes)
