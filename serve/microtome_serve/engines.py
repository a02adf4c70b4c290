"""What answers questions about one atlas, for whoever may see what of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from microtome.atlas.atlas import Atlas
from microtome.atlas.sql import quoted
from microtome.errors import ModelMismatch, SettingError, SlideUnknown
from microtome.models.card import ModelCard
from microtome.search.asked import look_at
from microtome.search.embedding import embed
from microtome.search.filters import all_of
from microtome.search.query import (
    CaseQuery,
    ImageQuery,
    RegionQuery,
    SlideQuery,
    TileQuery,
    VectorQuery,
)
from microtome.search.result import SearchResult, SearchSettings
from microtome.search.searcher import Searcher
from microtome.search.spread import Spread
from microtome_serve.access import Access
from microtome_serve.asking import Ask
from microtome_serve.facts import Facts
from microtome_serve.filters import compile_filter
from microtome_serve.metrics import ATLAS_VERSION, SEARCHES, TALLY
from microtome_serve.remote_encoder import RemoteEncoder
from microtome_serve.rollout import Slot
from microtome_serve.visible_rows import VisibleRows

Answer = dict[str, Any]
"""JSON values, see `schemas.Answer`."""

UPKEEP: Final = "index"  # notes about it tell how large the whole atlas is


class Engines:
    """Searches one atlas; safe to use from many threads.

    Args:
        atlas: what is searched.
        encoders: by name, the models that images and regions can be embedded with.
    """

    def __init__(self, atlas: Atlas, encoders: Mapping[Slot, RemoteEncoder]) -> None:
        self.atlas = atlas
        self.rows = VisibleRows(atlas)
        self.facts = Facts(atlas)
        self._encoders = encoders
        self._searchers = {
            name: Searcher(atlas, lambda one=encoder: one)  # type: ignore[misc]
            for name, encoder in encoders.items()
        }

    def embed(
        self,
        images: Sequence[ImageQuery],
        query_mpp: float | None,
        model: str | None,
        answers: Slot,
    ) -> Answer:
        """Vectors of pictures, as a search would make them: see `schemas.EmbedAnswer`.

        Raises:
            QueryUnreadable: a picture can't be read, or is too large.
            ModelMismatch: this server doesn't embed with the model.
        """
        encoder = self._encoders[answers if model is None else self._embeds(self._named(model))]
        settings, tile_px = SearchSettings(query_mpp=query_mpp), self.atlas.grid.tile_px
        shown = (look_at(image, self.atlas, settings).pixels for image in images)
        return {
            "model_id": encoder.card.model_id,
            "model_name": encoder.card.name,
            "dim": encoder.card.dim,
            "images": [
                {"vectors": embed(encoder, pixels, tile_px).tolist()}
                for pixels in shown
                if pixels is not None
            ],
        }

    def answer(self, access: Access, ask: Ask, answers: Slot) -> Answer:
        """What there is, for them, that looks like what is asked with.

        Args:
            access: who asks.
            ask: the question.
            answers: the encoder that answers where the question names no model.

        Raises:
            TileNotFound, SlideUnknown: what is asked with isn't there, or not for them.
            QueryError, SettingError, ModelMismatch: it can't be asked so.
            AtlasError: the atlas can't be read.
        """
        self._check_visible(access, ask)
        encoder, model_id = self._model(ask, answers)
        settings = self._settings(access, ask, model_id)
        return told(self._searchers[encoder].search(ask.query, settings), access, ask)

    def answer_together(
        self, asked: Sequence[tuple[Access, Ask, Slot]]
    ) -> list[Answer | Exception]:
        """As `answer` for each of several, together where they are alike, which is quicker."""
        answers: list[Answer | Exception] = [SettingError("unanswered")] * len(asked)
        alike: dict[tuple[Slot, SearchSettings], list[int]] = defaultdict(list)
        for place, (access, ask, answering) in enumerate(asked):
            try:
                self._check_visible(access, ask)
                encoder, model_id = self._model(ask, answering)
                alike[encoder, self._settings(access, ask, model_id)].append(place)
            except Exception as error:  # noqa: BLE001 - told to who asked, not to the others
                answers[place] = error
        for (encoder, settings), places in alike.items():
            queries = [asked[place][1].query for place in places]
            try:
                results = self._searchers[encoder].search_many(queries, settings)
                for place, result in zip(places, results, strict=True):
                    answers[place] = told(result, *asked[place][:2])
            except Exception as error:  # noqa: BLE001
                for place in places:
                    answers[place] = self._alone(asked[place], error, len(places))
        return answers

    def _alone(
        self, asked: tuple[Access, Ask, Slot], error: Exception, together: int
    ) -> Answer | Exception:
        """The answer to one of several of which any may have failed."""
        if together == 1:
            return error
        try:
            return self.answer(*asked)
        except Exception as own:  # noqa: BLE001 - told to who asked
            return own

    def _check_visible(self, access: Access, ask: Ask) -> None:
        """Raise unless what is asked with is there for them; a region's slide must be known."""
        match ask.query:
            case TileQuery(tile_id):
                if access.rows is not None:  # else the search says so itself
                    self.rows.tile(access, tile_id)
            case RegionQuery(slide) | SlideQuery(slide):
                self.rows.slide(access, slide)
            case CaseQuery(case_id):
                self._check_case(access, case_id)

    def _check_case(self, access: Access, case_id: str) -> None:
        """A case is there where all of its slides are: what it looks like comes of them all."""
        own, slides = f"case_id = {quoted(case_id)}", self.atlas.slides
        there = slides.count_rows(filter=own)
        if not there or there != slides.count_rows(filter=all_of(own, access.rows or "")):
            raise SlideUnknown("the atlas holds no such slide or case")

    def _model(self, ask: Ask, answers: Slot) -> tuple[Slot, str]:
        """The encoder to ask with, and the model whose vectors are compared."""
        if ask.model is None:
            return answers, self._encoders[answers].card.model_id
        model_id = self._named(ask.model)
        if isinstance(ask.query, TileQuery | VectorQuery):  # nothing to embed
            return answers, model_id
        return self._embeds(model_id), model_id

    def _embeds(self, model_id: str) -> Slot:
        """The encoder of a model."""
        for name, encoder in self._encoders.items():
            if encoder.card.model_id == model_id:
                return name
        raise ModelMismatch(
            f"this server doesn't embed with the model {model_id}",
            remedy="Ask by tile or by vector, or leave `model` out.",
        )

    def _named(self, model: str) -> str:
        """The id of a model of the atlas, by its id or its name."""
        held: Mapping[str, ModelCard] = self.atlas.models
        named = [one for one, card in held.items() if model in {one, card.name}]
        if len(named) != 1:
            there = ", ".join(f"{card.name} ({one})" for one, card in held.items())
            raise ModelMismatch(
                f"the atlas has no one model {model!r}", remedy=f"Its models: {there}."
            )
        return named[0]

    def _settings(self, access: Access, ask: Ask, model_id: str) -> SearchSettings:
        chosen = compile_filter(ask.conditions, self.atlas.tiles.schema)
        return SearchSettings(
            k=ask.depth,
            where=all_of(chosen or "", access.rows or ""),
            exclude=ask.exclude,
            model_id=model_id,
            query_mpp=ask.query_mpp,
            exact=ask.exact,
            spread=None if ask.spread is None else Spread(*ask.spread),
            min_score=ask.min_score,
        )


def told(result: SearchResult, access: Access, ask: Ask) -> Answer:
    """What whoever asked is told of a result."""
    facts = result.to_json()
    TALLY.count(SEARCHES, ask.level, facts.get("path", "exact"), facts["model_name"])
    TALLY.set(ATLAS_VERSION, facts["tiles_version"])
    hits = facts["hits"]
    restricted = access.rows is not None
    return {
        "level": ask.level,
        "model_id": facts["model_id"],
        "model_name": facts["model_name"],
        "tiles_version": facts["tiles_version"],
        "coverage": facts["coverage"],
        "notes": [note for note in facts["notes"] if not (restricted and UPKEEP in note)],
        "hits": hits[ask.offset :],
        "next_offset": ask.depth if len(hits) == ask.depth else None,
    }
