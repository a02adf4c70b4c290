"""Search an atlas: what is asked → its vectors → the nearest tiles → hits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from microtome.atlas.atlas import Atlas
from microtome.atlas.schema import vector_column
from microtome.atlas.sql import quoted
from microtome.errors import ModelMismatch, SettingError
from microtome.models.card import ModelCard
from microtome.models.encoder import Encoder
from microtome.search.asked import Asked, look_at
from microtome.search.exact import Nearest, nearest
from microtome.search.filters import all_of, check_filter, filter_errors, other_cases, other_slides
from microtome.search.hits import read_hits
from microtome.search.picture import cover
from microtome.search.query import Query, TileQuery
from microtome.search.result import SearchResult, SearchSettings
from microtome.slides.slide import Pixels

ENCODE_BATCH: Final = 16


class Searcher:
    """Finds tiles that look alike.

    Args:
        atlas: what is searched.
        encoder: embeds images and regions; a callable is called when first needed. A tile's own
            vector is stored, so asking by tile needs none.
    """

    def __init__(
        self, atlas: Atlas, encoder: Encoder | Callable[[], Encoder] | None = None
    ) -> None:
        self._atlas = atlas
        self._encoder = encoder

    def search(self, query: Query, settings: SearchSettings | None = None) -> SearchResult:
        """Find the tiles nearest to a query, by exact cosine.

        A tile asked by its id is its own first hit, unless its slide or case is excluded. Where
        the query's case is unknown, its slide is excluded instead, and a note says so.

        Raises:
            FilterInvalid: `where` isn't a condition over the columns of `tiles`.
            ModelMismatch: the atlas has no vectors of the model, or the tile has none.
            QueryError, SlideError, SettingError: see `look_at`.
        """
        settings = settings or SearchSettings()
        tiles = self._atlas.tiles
        if settings.where is not None:
            check_filter(tiles, settings.where)
        asked = look_at(query, self._atlas, settings)
        model_id = self._model_id(query, settings)
        vectors = self._vectors(query, asked, model_id, tiles)
        exclusion, exclusion_notes = _exclusion(asked, settings)
        with filter_errors(tiles, settings.where):
            found = nearest(
                tiles,
                vector_column(model_id),
                vectors,
                k=settings.k,
                where=all_of(settings.where or "", exclusion),
            )
        return SearchResult(
            hits=read_hits(tiles, found.offsets.tolist(), found.scores.tolist()),
            query=query,
            settings=settings,
            model_id=model_id,
            coverage=found.scored / found.seen if found.seen else 1.0,
            notes=(*asked.notes, *exclusion_notes, *_about_coverage(found, settings)),
            tile=asked.tile,
            pixels=asked.pixels,
        )

    def _model_id(self, query: Query, settings: SearchSettings) -> str:
        """Whose vectors are compared: the model asked for, the encoder's, or the only one."""
        held = self._atlas.models
        card = None if isinstance(query, TileQuery) else self._loaded().card
        wanted = settings.model_id or (card.model_id if card else None)
        if wanted is None and len(held) != 1:
            raise SettingError(
                f"the atlas {self._atlas.uri} holds vectors of {_named(held)}",
                remedy="Say which model to compare by.",
            )
        model_id = wanted or next(iter(held))
        if model_id not in held:
            lacking = _named({card.model_id: card}) if card else model_id
            raise ModelMismatch(
                f"the atlas {self._atlas.uri} holds vectors of {_named(held)}, not of {lacking}",
                remedy="Ask with a model that the atlas was indexed with.",
            )
        if card and card.model_id != model_id:
            raise ModelMismatch(
                f"the query would be embedded by {card.name} ({card.model_id}), but compared with "
                f"vectors of {held[model_id].name} ({model_id})",
                remedy="Ask with the one model for both.",
            )
        return model_id

    def _loaded(self) -> Encoder:
        if self._encoder is None:
            raise SettingError(
                "an image or a region needs the model to embed it",
                remedy="Name the model, or ask by tile id.",
            )
        if not hasattr(self._encoder, "encode"):
            self._encoder = self._encoder()
        return cast(Encoder, self._encoder)

    def _vectors(
        self, query: Query, asked: Asked, model_id: str, tiles: Any
    ) -> NDArray[np.float32]:
        if asked.pixels is not None:
            return embed(self._loaded(), asked.pixels, self._atlas.grid.tile_px)
        column = vector_column(model_id)
        stored = tiles.to_table(columns=[column], filter=f"tile_id = {quoted(query.text)}")[column]
        if stored.null_count == len(stored):
            raise ModelMismatch(
                f"the tile {query.text} has no vector of model {model_id}",
                remedy="Index its slide with this model, or ask with another.",
            )
        (vector,) = stored.to_pylist()
        return _unit(np.array([vector]))


def embed(encoder: Encoder, pixels: Pixels, tile_px: int) -> NDArray[np.float32]:
    """The vectors of the tiles that cover a picture of any size.

    A hit's score is its cosine with the one that it resembles most, so it looks like some part of
    the picture. Their mean would look for tiles that mix all parts, and was seen to miss the very
    place that a picture was cut from.

    Args:
        encoder: embeds tiles.
        pixels: (H, W, 3) uint8 at the mpp that the encoder's tiles have.
        tile_px: side of a tile.

    Returns:
        (Q, D) float32, each row of unit length.
    """
    tiles = cover(pixels, tile_px)
    parts = [tiles[i : i + ENCODE_BATCH] for i in range(0, len(tiles), ENCODE_BATCH)]
    return _unit(np.concatenate([encoder.encode(part) for part in parts]))


def _unit(vectors: NDArray[Any]) -> NDArray[np.float32]:
    vectors = vectors.astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return unit


def _exclusion(asked: Asked, settings: SearchSettings) -> tuple[str, tuple[str, ...]]:
    """The condition that leaves out the query's own slide or case, and what to say about it."""
    if settings.exclude == "none":
        return "", ()
    if asked.slide_id is None:
        return "", ("the query's slide is not in the atlas, so there was nothing to exclude",)
    if settings.exclude == "slide":
        return other_slides(asked.slide_id), ()
    if asked.case_id is not None:
        return other_cases(asked.case_id), ()
    note = f"the case of {asked.slide_id} is unknown: only the slide itself was excluded"
    return other_slides(asked.slide_id), (note,)


def _about_coverage(found: Nearest, settings: SearchSettings) -> tuple[str, ...]:
    notes = []
    if found.scored < found.seen:
        notes.append(
            f"{found.seen - found.scored:,} of {found.seen:,} tiles have no vector of this model "
            "and were not searched"
        )
    if len(found.offsets) < settings.k:
        notes.append(
            f"{len(found.offsets):,} of {settings.k:,} hits: there are no more tiles to search"
        )
    return tuple(notes)


def _named(models: Mapping[str, ModelCard]) -> str:
    return ", ".join(f"{card.name} ({model_id})" for model_id, card in models.items()) or "no model"
