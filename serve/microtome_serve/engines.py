"""What answers questions about one atlas, for whoever may see what of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from microtome.atlas.atlas import Atlas
from microtome.atlas.sql import quoted
from microtome.errors import (
    MicrotomeError,
    ModelMismatch,
    RequestTooLarge,
    SettingError,
    SlideUnknown,
)
from microtome.models.card import ModelCard
from microtome.models.encoder import Encoder
from microtome.search import patience
from microtome.search.asked import look_at
from microtome.search.embedding import embed
from microtome.search.filters import all_of
from microtome.search.polygon_query import PolygonQuery
from microtome.search.query import (
    CaseQuery,
    ImageQuery,
    RegionQuery,
    SlideQuery,
    TileQuery,
    VectorQuery,
)
from microtome.search.result import SearchSettings
from microtome.search.trust import UNJUDGED, Trust
from microtome_serve.access import Access
from microtome_serve.asking import Ask, EmbedWanted
from microtome_serve.facts import Facts
from microtome_serve.filters import compile_filter
from microtome_serve.judging import LaterCalibrations
from microtome_serve.levels import Levels, Result, tile_settings
from microtome_serve.limits import MOST_TILES
from microtome_serve.metrics import ATLAS_VERSION, SEARCHES, TALLY
from microtome_serve.rollout import Slot
from microtome_serve.visible_rows import VisibleRows

Answer = dict[str, Any]
"""JSON values, see `schemas.Answer`."""

FOR_OPERATORS: Final = "microtome maintain"  # such notes tell of the atlas as a whole


class Engines:
    """Searches one atlas; safe to use from many threads.

    Args:
        atlas: what is searched.
        encoders: by name, the models that images and regions can be embedded with.
        most_tiles: of pictures that are embedded at once, see `Limits.tiles`.
    """

    def __init__(
        self, atlas: Atlas, encoders: Mapping[Slot, Encoder], most_tiles: int = MOST_TILES
    ) -> None:
        self.atlas = atlas
        self.rows = VisibleRows(atlas)
        self.facts = Facts(atlas)
        self._encoders = encoders
        self._most_tiles = most_tiles
        self._compiled: tuple[str, pa.Schema | None, str | None] = "", None, None
        trust = Trust(atlas, LaterCalibrations(atlas))
        self._levels = {slot: Levels(atlas, encoder, trust) for slot, encoder in encoders.items()}

    def embed(self, wanted: EmbedWanted, answers: Slot) -> Answer:
        """Vectors of pictures, as a search would make them: see `schemas.EmbedAnswer`.

        Raises:
            QueryUnreadable: a picture can't be read, or is too large.
            RequestTooLarge: together they have more tiles than one may ask for.
            ModelMismatch: this server doesn't embed with the model.
        """
        slot = answers if wanted.model is None else self._embeds(self._named(wanted.model))
        card, vectors, left = self._encoders[slot].card, [], self._most_tiles
        for image in wanted.images:
            of_image = self._embedded(self._encoders[slot], image, wanted.query_mpp)
            if (left := left - len(of_image)) < 0:
                raise RequestTooLarge(
                    f"the pictures have more than {self._most_tiles} tiles together",
                    remedy="Ask several times.",
                )
            vectors.append({"vectors": of_image.tolist()})
        return {
            "model_id": card.model_id,
            "model_name": card.name,
            "dim": card.dim,
            "images": vectors,
        }

    def _embedded(
        self, encoder: Encoder, image: ImageQuery, query_mpp: float | None
    ) -> NDArray[np.float32]:
        """The vectors of one picture's tiles."""
        patience.check()
        pixels = look_at(image, self.atlas, SearchSettings(query_mpp=query_mpp)).pixels
        if pixels is None:  # pragma: no cover - a picture always has some
            return np.empty((0, encoder.card.dim), np.float32)
        return embed(encoder, pixels, self.atlas.grid.tile_px)

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
        with self._placeless():
            self._check_visible(access, ask)
            slot, model_id = self._model(ask, answers)
            chosen = self._chosen(ask)
            result = self._levels[slot].search(ask, model_id, chosen, access.rows)
        return told(result, access, ask)

    def answer_together(
        self, asked: Sequence[tuple[Access, Ask, Slot]]
    ) -> list[Answer | Exception]:
        """As `answer` for each of several, together where they are alike, which is quicker."""
        answers: list[Answer | Exception] = [SettingError("unanswered")] * len(asked)
        alike: dict[tuple[Slot, SearchSettings], list[int]] = defaultdict(list)
        for place, (access, ask, answering) in enumerate(asked):
            try:
                with self._placeless():
                    self._check_visible(access, ask)
                    slot, model_id = self._model(ask, answering)
                    settings = tile_settings(ask, model_id, self._chosen(ask), access.rows)
                alike[slot, settings].append(place)
            except Exception as error:  # noqa: BLE001 - told to who asked, not to the others
                answers[place] = error
        for (slot, settings), places in alike.items():
            queries = [asked[place][1].query for place in places]
            try:
                with self._placeless():
                    results = self._levels[slot].tiles.search_many(queries, settings)
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
            case RegionQuery(slide) | PolygonQuery(slide) | SlideQuery(slide):
                self.rows.slide(access, slide)
            case CaseQuery(case_id):
                self._check_case(access, case_id)

    def _check_case(self, access: Access, case_id: str) -> None:
        """A case is there for whom a slide of it is there; the others of it don't count."""
        own = all_of(f"case_id = {quoted(case_id)}", access.rows or "")
        if "\0" in case_id or not self.atlas.slides.count_rows(filter=own):
            raise SlideUnknown("the atlas holds no such slide or case")

    def _model(self, ask: Ask, answers: Slot) -> tuple[Slot, str]:
        """The encoder to ask with, and the model whose vectors are compared."""
        if ask.model is None:
            return answers, self._encoders[answers].card.model_id
        model_id = self._named(ask.model)
        if isinstance(ask.query, TileQuery | VectorQuery):  # nothing to embed
            return answers, model_id
        return self._embeds(model_id), model_id

    def _chosen(self, ask: Ask) -> str | None:
        """The client's conditions in Lance's SQL: one request's are compiled once for all."""
        if not ask.conditions:
            return None
        schema = self.atlas.tiles.schema
        said = repr(ask.conditions)  # tells 1 from true, which are equal
        known, of, chosen = self._compiled
        if said != known or schema != of:
            chosen = compile_filter(ask.conditions, schema)
            self._compiled = said, schema, chosen
        return chosen

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

    @contextmanager
    def _placeless(self) -> Iterator[None]:
        """Take where the atlas lies out of what is told of an error."""
        try:
            yield
        except MicrotomeError as error:
            error.message = error.message.replace(f" {self.atlas.uri}", "")
            error.remedy = error.remedy.replace(f" {self.atlas.uri}", "")
            raise


def told(result: Result, access: Access, ask: Ask) -> Answer:
    """What whoever asked is told of a result."""
    facts = result.to_json()
    hits, whole = facts["hits"], access.role == "operator" and access.rows is None
    TALLY.count(SEARCHES, ask.level, facts.get("path") or "exact", facts["model_name"])
    TALLY.set(ATLAS_VERSION, facts["tiles_version"])
    return {
        "level": ask.level,
        "model_id": facts["model_id"],
        "model_name": facts["model_name"],
        "method": facts.get("method"),
        "tiles_version": facts["tiles_version"],
        "coverage": facts["coverage"],
        "notes": list(facts["notes"] if whole else filter(None, map(_for_readers, facts["notes"]))),
        "verdict": facts.get("verdict"),
        "site_bias": facts.get("site_bias", []),
        "remarks": facts.get("remarks", []),
        "hits": hits[ask.offset :],
        "next_offset": ask.depth if len(hits) == ask.depth else None,
    }


def _for_readers(note: str) -> str:
    """A note without what is for operators; empty where nothing else is in it."""
    if FOR_OPERATORS not in note:
        return note
    return UNJUDGED if note.startswith(UNJUDGED) else ""
