"""The labelled tiles of an atlas, with the vectors that it holds: nothing is embedded again."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from microtome.atlas.atlas import Atlas
from microtome.atlas.dropping import find_model
from microtome.atlas.labelled import PREFIX, labelled_tiles
from microtome.atlas.schema import TABLES, vector_column
from microtome.errors import SettingError, VectorsInvalid
from microtome.evaluation.collection import Collection, Places, limited
from microtome.evaluation.grouping import regrouped
from microtome.models.card import ModelCard

BLOCK_ROWS = 16_384
_GROUPING = ("case_id", "slide_id")


@dataclass(frozen=True, slots=True)
class AtlasTiles:
    """Tiles of one version of an atlas.

    Attributes:
        collection: those that a column labels and that every model has a vector of.
        vectors: (N, D) float32 of each model, by its id.
        cards: of the models, in the order they were asked for.
    """

    collection: Collection
    vectors: dict[str, NDArray[np.float32]]
    cards: tuple[ModelCard, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of an atlas.

    Attributes:
        data: `atlas:URI#COLUMN`, or without `atlas:`.
        models: names or ids of models that it holds; none for the only one.
        group: a column to leave out by; the case, or the slide without one, where it is None.
        limit: most tiles, or None for all.
        seed: of which tiles are drawn.
    """

    data: str
    models: Sequence[str] = ()
    group: str | None = None
    limit: int | None = None
    seed: int = 0


def read_tiles(wanted: Wanted) -> AtlasTiles:
    """Read labelled tiles and their vectors.

    Raises:
        SettingError: no column is named, or no model where the atlas holds several.
        ModelNotFound: it holds no such model.
        VectorsInvalid: a stored vector isn't finite, or no tile has one of every model.
        AtlasError, DatasetInvalid: see `labelled_tiles`.
    """
    uri, hash_mark, column = wanted.data.removeprefix(PREFIX).rpartition("#")
    if not (uri and hash_mark and column):
        raise SettingError(
            f"{wanted.data!r} doesn't say which column holds the labels",
            remedy="Write atlas:URI#COLUMN; `microtome info` lists an atlas's columns.",
        )
    atlas = _pinned(Atlas.open(uri))
    cards = _models(atlas, wanted.models)
    shown = f"{column} of {posixpath.basename(uri.rstrip('/'))}"
    collection = Collection.of(labelled_tiles(atlas, column), shown)
    if wanted.group is not None:
        collection = regrouped(
            collection, wanted.group, _group_columns(atlas, column, wanted.group)
        )
    collection, chosen = limited(collection, wanted.limit, wanted.seed)
    stored = {card.model_id: _stored(atlas, column, card.model_id, chosen) for card in cards}
    return _whole(collection, stored, cards)


def _pinned(atlas: Atlas) -> Atlas:
    """The atlas as it is now, whoever writes to it meanwhile: rows are matched by their order."""
    return replace(atlas, pinned={table: atlas.dataset(table).version for table in TABLES})


def _models(atlas: Atlas, named: Sequence[str]) -> tuple[ModelCard, ...]:
    if named:
        return tuple(find_model(atlas, one) for one in named)
    if len(atlas.models) != 1:
        held = ", ".join(f"{card.name} ({model_id})" for model_id, card in atlas.models.items())
        raise SettingError(
            f"the atlas {atlas.uri} holds vectors of several models: {held}",
            remedy="Say whose to judge with --model; it may be repeated.",
        )
    return tuple(atlas.models.values())


def _group_columns(atlas: Atlas, column: str, wanted: str) -> dict[str, list[object]]:
    held = [*_GROUPING, *atlas.columns.names]
    if wanted not in held:
        return {name: [] for name in held}  # for the message
    table = atlas.tiles.to_table(columns=list({column, wanted}))
    return {wanted: table.filter(pc.is_valid(table[column]))[wanted].to_pylist()}


def _stored(
    atlas: Atlas, column: str, model_id: str, chosen: Places
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(N, D) float32 vectors of some labelled tiles, and (N,) whether each is there."""
    name = vector_column(model_id)
    dim = atlas.tiles.schema.field(name).type.list_size
    vectors, there = np.zeros((len(chosen), dim), np.float32), np.zeros(len(chosen), bool)
    scanner = atlas.tiles.scanner(columns=list({column, name}), batch_size=BLOCK_ROWS)
    start = 0
    for batch in scanner.to_batches():
        labelled = batch.filter(pc.is_valid(batch.column(column)))
        inside = slice(*np.searchsorted(chosen, (start, start + len(labelled))))
        rows = labelled.column(name).take(pa.array(chosen[inside] - start))
        there[inside] = rows.is_valid().to_numpy(zero_copy_only=False)
        vectors[inside] = rows.fill_null([0.0] * dim).flatten().to_numpy().reshape(-1, dim)
        start += len(labelled)
    return vectors, there


def _whole(
    collection: Collection,
    stored: dict[str, tuple[NDArray[np.float32], NDArray[np.bool_]]],
    cards: tuple[ModelCard, ...],
) -> AtlasTiles:
    """The tiles that every model has a vector of."""
    complete = np.all([there for _, there in stored.values()], axis=0)
    if not complete.any():
        raise VectorsInvalid(
            f"no tile of {collection.name} has a vector of every model that is to be judged",
            remedy="Finish `microtome embed`, or judge one model.",
        )
    if lacking := int((~complete).sum()):
        collection = collection.noted(f"{lacking:,} tiles lack a vector and were left out")
    kept = np.flatnonzero(complete)
    vectors = {model_id: held[kept] for model_id, (held, _) in stored.items()}
    for card in cards:
        held = vectors[card.model_id]
        squares = np.einsum("nd,nd->n", held, held, dtype=np.float64)
        if bad := int((~(np.isfinite(squares) & (squares > 0))).sum()):
            raise VectorsInvalid(
                f"{bad:,} stored vectors of {card.name} hold NaN, infinity or only zeros",
                remedy="`microtome verify --vectors --repair` finds and withdraws their slides.",
            )
    return AtlasTiles(collection.take(kept), vectors, cards)
