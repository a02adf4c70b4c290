"""Search an atlas: what is asked → its vectors → the nearest tiles → hits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from microtome.atlas.atlas import Atlas
from microtome.atlas.schema import vector_column
from microtome.atlas.sql import quoted
from microtome.atlas.tables import reading
from microtome.atlas.vector_index import unit
from microtome.errors import ModelMismatch, SettingError
from microtome.models.card import ModelCard
from microtome.models.encoder import Encoder
from microtome.search.asked import Asked, look_at
from microtome.search.embedding import embed
from microtome.search.exclusion import check_column, own_exclusion
from microtome.search.filters import Exclusion, check_filter, filter_errors
from microtome.search.finder import Finder, Finders, View, Wanted, path_of
from microtome.search.hits import read_hits
from microtome.search.query import Query, TileQuery, VectorQuery
from microtome.search.ranking import Ranked, about_index, about_vectors, rank
from microtome.search.result import SearchResult, SearchSettings
from microtome.search.trust import Asking, Trust


@dataclass(frozen=True, slots=True)
class Prepared:
    """A query, ready to be compared.

    Attributes:
        query: what was asked.
        asked: what it shows.
        model_id: whose vectors are compared.
        vectors: (Q, D) float32 of unit length.
        exclusion: what is left out.
        notes: what a reader of the hits should know of all that.
    """

    query: Query
    asked: Asked
    model_id: str
    vectors: NDArray[np.float32]
    exclusion: Exclusion | None
    notes: tuple[str, ...]

    @property
    def asking(self) -> Asking:
        """Where it comes from, and what is left out."""
        asked = self.asked
        return Asking(asked.slide_id, asked.case_id, self.exclusion, len(self.vectors))


class Searcher:
    """Finds tiles that look alike.

    Args:
        atlas: what is searched.
        encoder: embeds images and regions; a callable is called when first needed. A tile's own
            vector is stored, so asking by tile needs none.
        finders: shared with other searchers of the atlas.
        trust: judges the results; likewise.
    """

    def __init__(
        self,
        atlas: Atlas,
        encoder: Encoder | Callable[[], Encoder] | None = None,
        finders: Finders | None = None,
        trust: Trust | None = None,
    ) -> None:
        self._atlas = atlas
        self._encoder = encoder
        self._finders = finders or Finders(atlas)
        self._trust = trust or Trust(atlas)

    def search(self, query: Query, settings: SearchSettings | None = None) -> SearchResult:
        """Find the tiles nearest to a query by cosine: see `search_many`."""
        return self.search_many([query], settings)[0]

    def search_many(
        self, queries: Sequence[Query], settings: SearchSettings | None = None
    ) -> tuple[SearchResult, ...]:
        """Find the tiles nearest to each query; together is quicker than one by one.

        Through the model's index where there is one, else, or if asked, exactly; scores are exact
        in any case. A tile asked by its id is its own first hit, unless its slide or case is
        excluded. Where the query's case is unknown, its slide is excluded instead, and a note says
        so.

        Raises:
            FilterInvalid: `where` isn't a condition over the columns of `tiles`.
            ModelMismatch: the atlas has no vectors of the model, or the tile has none.
            QueryError, SlideError, SettingError: see `look_at`.
            AtlasDamaged: a file of the atlas can't be read.
        """
        with reading(self._atlas.uri, "tiles"):
            return self._search_many(queries, settings or SearchSettings())

    def prepare(self, query: Query, settings: SearchSettings) -> Prepared:
        """Read and embed a query, and say what it leaves out; nothing is searched.

        Raises:
            ModelMismatch, QueryError, SlideError, SettingError: as in `search_many`.
        """
        asked = look_at(query, self._atlas, settings)
        model_id = self._model_id(query, settings)
        exclusion, notes = own_exclusion(self._atlas, asked.slide_id, settings.exclude)
        vectors = self._vectors(query, asked, model_id, self._atlas.tiles)
        return Prepared(query, asked, model_id, vectors, exclusion, (*asked.notes, *notes))

    def _search_many(
        self, queries: Sequence[Query], settings: SearchSettings
    ) -> tuple[SearchResult, ...]:
        if settings.where is not None:
            check_filter(self._atlas.tiles, settings.where)
        if settings.spread is not None:
            check_column(self._atlas, "spread", settings.spread.column)
        for column in settings.site_columns:
            check_column(self._atlas, "site_columns", column)
            if column in {"slide_id", "case_id"}:
                raise SettingError(
                    f"{column} tells no site: hits of the query's own slide and case don't count",
                    remedy="Name a column that tells where, or by what, slides were scanned.",
                )
        prepared = [self.prepare(query, settings) for query in queries]
        results: list[SearchResult | None] = [None] * len(prepared)
        for alike in {(one.model_id, one.exclusion): None for one in prepared}:
            places = [i for i, one in enumerate(prepared) if (one.model_id, one.exclusion) == alike]
            found = self._found([prepared[i] for i in places], settings)
            for place, result in zip(places, found, strict=True):
                results[place] = result
        return tuple(result for result in results if result is not None)

    def _found(self, alike: Sequence[Prepared], settings: SearchSettings) -> list[SearchResult]:
        """Results of queries with one model and one exclusion."""
        model_id, exclusion = alike[0].model_id, alike[0].exclusion
        wanted = Wanted(
            settings.k, settings.where, exclusion, exact=settings.exact, effort=settings.effort
        )
        finder = self._finders.of(model_id)
        view = finder.view()
        with filter_errors(view.tiles, settings.where):
            found = rank(finder, view, [one.vectors for one in alike], wanted, settings)
        return [
            self._result(finder, view, one, ranked, settings)
            for one, ranked in zip(alike, found, strict=True)
        ]

    def _result(
        self, finder: Finder, view: View, one: Prepared, ranked: Ranked, settings: SearchSettings
    ) -> SearchResult:
        near, card = ranked.nearest, self._atlas.models[one.model_id]
        hits = read_hits(view.tiles, near.row_ids.tolist(), near.scores.tolist())
        verdict, doubt = self._trust.verdict(finder, one.asking, ranked.best, settings)
        site_bias, untold = self._trust.site_bias(view, one.asking, hits, settings)
        notes = (about_index(view, settings), about_vectors(near), ranked.note, doubt, untold)
        return SearchResult(
            hits=hits,
            query=one.query,
            settings=settings,
            model_id=card.model_id,
            model_name=card.name,
            path=path_of(view, Wanted(settings.k, exact=settings.exact)),
            tiles_version=view.tiles.version,
            coverage=near.scored / near.seen if near.seen else 1.0,
            notes=(*one.notes, *(note for note in notes if note)),
            verdict=verdict,
            site_bias=site_bias,
            tile=one.asked.tile,
            pixels=one.asked.pixels,
        )

    def _model_id(self, query: Query, settings: SearchSettings) -> str:
        """Whose vectors are compared: the model asked for, the encoder's, or the only one."""
        held = self._atlas.models
        card = None if isinstance(query, TileQuery | VectorQuery) else self._loaded().card
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
        if isinstance(query, VectorQuery):
            return _of_dim(query, self._atlas.models[model_id])
        column = vector_column(model_id)
        stored = tiles.to_table(columns=[column], filter=f"tile_id = {quoted(query.text)}")[column]
        if stored.null_count == len(stored):
            raise ModelMismatch(
                f"the tile {query.text} has no vector of model {model_id}",
                remedy="Index its slide with this model, or ask with another.",
            )
        (vector,) = stored.to_pylist()
        return unit(np.array([vector]))


def _of_dim(query: VectorQuery, card: ModelCard) -> NDArray[np.float32]:
    """The vectors, which must have the model's dimension."""
    if query.vectors.shape[1] != card.dim:
        raise ModelMismatch(
            f"the query has {query.text}, those of {card.name} ({card.model_id}) have {card.dim}",
            remedy="Give vectors made by the atlas's model.",
        )
    vectors: NDArray[np.float32] = query.vectors
    return vectors


def _named(models: Mapping[str, ModelCard]) -> str:
    return ", ".join(f"{card.name} ({model_id})" for model_id, card in models.items()) or "no model"
