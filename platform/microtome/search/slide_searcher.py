"""Search an atlas for slides or cases: what is asked → tissue → what is like it → hits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from microtome.atlas.atlas import Atlas
from microtome.atlas.derived import IndexUnusable
from microtome.atlas.tables import reading
from microtome.errors import ModelMismatch, SettingError
from microtome.models.encoder import Encoder
from microtome.search.exclusion import check_column
from microtome.search.filters import check_filter, filter_errors
from microtome.search.finder import Finders
from microtome.search.query import CaseQuery, Query, SlideQuery
from microtome.search.result import SearchSettings
from microtome.search.searcher import Searcher
from microtome.search.slide_answer import Answer, Asking, answer_by_mosaics, answer_by_votes
from microtome.search.slide_asked import AskedTissue, ask_whole
from microtome.search.slide_bank import Tell
from microtome.search.slide_evidence import read_matches
from microtome.search.slide_result import SlideHit, SlideResult, SlideSettings
from microtome.search.slide_view import SlideView, SlideViews
from microtome.search.spread import fewer


class SlideSearcher:
    """Finds slides and cases that look alike.

    Args:
        atlas: what is searched.
        encoder: embeds images and regions; a callable is called when first needed. Slides, cases,
            tiles and vectors need none.
        tell: told how far the making of mosaics is, where there are none stored.
        finders: shared with other searchers of the atlas.
    """

    def __init__(
        self,
        atlas: Atlas,
        encoder: Encoder | Callable[[], Encoder] | None = None,
        tell: Tell = lambda _: None,
        finders: Finders | None = None,
    ) -> None:
        self._atlas = atlas
        self._finders = finders or Finders(atlas)
        self._searcher = Searcher(atlas, encoder, self._finders)
        self._tell = tell
        self._views: dict[str, SlideViews] = {}

    def search(self, query: Query, settings: SlideSettings | None = None) -> SlideResult:
        """Find the slides or cases most like a query.

        A slide that is asked with is its own first hit, unless it is excluded. Without mosaics
        from `microtome maintain` those of some hundreds of slides are made now, and a note says
        how many were not searched.

        Raises:
            FilterInvalid: a condition isn't one over the columns of `tiles`.
            SlideUnknown: the atlas holds no such slide or case.
            ModelMismatch: the atlas has no vectors of the model, or the query has none.
            QueryError, SlideError, SettingError: see `asked.look_at`.
            AtlasDamaged: a file of the atlas can't be read.
        """
        settings = settings or SlideSettings()
        with reading(self._atlas.uri, "tiles"):
            tiles = self._atlas.tiles
            for condition in (settings.where, settings.visible):
                if condition is not None:
                    check_filter(tiles, condition)
            if settings.spread is not None:
                check_column(self._atlas, "spread", settings.spread.column)
            with filter_errors(tiles, settings.where or settings.visible):
                return self._search(query, settings)

    def _search(self, query: Query, settings: SlideSettings) -> SlideResult:
        if isinstance(query, SlideQuery | CaseQuery):
            whole, model_id = query, self._whole_model(settings)
        else:
            whole, prepared = None, self._searcher.prepare(query, _for_tiles(settings))
            asked, model_id = AskedTissue.of(prepared), prepared.model_id
        views = self._views_of(model_id)
        method = settings.method or ("mosaic" if whole else "votes")
        if method == "votes" and settings.min_score is not None:
            raise SettingError(
                "min_score says nothing where slides or cases are compared by votes: they score no "
                "cosines",
                remedy="Compare by the method mosaic or mean, or leave min_score out.",
            )

        def answered(view: SlideView) -> SlideResult:
            own = ask_whole(whole, self._atlas, view, settings) if whole else asked
            asking = Asking(query, own, settings, method, view)
            if method == "votes":
                return self._result(asking, answer_by_votes(asking, views.finder))
            return self._result(asking, answer_by_mosaics(asking, self._tell))

        try:
            return answered(views.view())
        except IndexUnusable as damaged:
            return answered(views.without_stored(str(damaged)))

    def _views_of(self, model_id: str) -> SlideViews:
        if model_id not in self._views:
            views = SlideViews(self._atlas, self._finders.of(model_id))
            self._views.setdefault(model_id, views)
        return self._views[model_id]

    def _result(self, asking: Asking, answer: Answer) -> SlideResult:
        ground, asked = asking.view.ground, asking.asked
        matches = read_matches(ground.tiles, asked.tissue, asked.tile, answer.found)
        hits = tuple(
            SlideHit(
                *asking.groups.names[group],
                slides=found.slides,
                score=score,
                evidence=evidence,
                metadata=ground.facts.metadata(found.slides),
            )
            for group, score, found, evidence in zip(
                answer.groups, answer.scores, answer.found, matches, strict=True
            )
        )
        card = self._atlas.models[ground.model_id]
        return SlideResult(
            hits=hits,
            query=asking.query,
            settings=asking.settings,
            method=asking.method,
            model_id=card.model_id,
            model_name=card.name,
            path="exact" if answer.exact else "index",
            tiles_version=ground.tiles.version,
            coverage=answer.coverage,
            notes=(*asked.notes, *answer.notes, *_about(hits, asking, answer.low)),
            tile=asked.tile,
            pixels=asked.pixels,
        )

    def _whole_model(self, settings: SlideSettings) -> str:
        """Whose vectors are compared: the model asked for, or the only one."""
        held = self._atlas.models
        named = ", ".join(f"{card.name} ({model_id})" for model_id, card in held.items())
        if settings.model_id is None and len(held) != 1:
            raise SettingError(
                f"the atlas {self._atlas.uri} holds vectors of {named or 'no model'}",
                remedy="Say which model to compare by.",
            )
        model_id = settings.model_id or next(iter(held))
        if model_id not in held:
            raise ModelMismatch(
                f"the atlas {self._atlas.uri} holds vectors of {named}, not of {model_id}",
                remedy="Ask with a model that the atlas was indexed with.",
            )
        return model_id


def _for_tiles(settings: SlideSettings) -> SearchSettings:
    return SearchSettings(
        exclude=settings.exclude, model_id=settings.model_id, query_mpp=settings.query_mpp
    )


def _about(hits: Sequence[SlideHit], asking: Asking, low: bool) -> tuple[str, ...]:
    settings, notes = asking.settings, []
    alone = sum(hit.case_id is None for hit in hits)
    if settings.level == "case" and alone:
        notes.append(
            f"{alone:,} of the hits are slides of unknown case, which stand for themselves"
        )
    why = (
        "no others have any of the tiles nearest to the query"
        if asking.method == "votes"
        else f"there are no more {settings.level}s to search"
    )
    least = settings.min_score if low else None
    notes.append(fewer(len(hits), settings.k, why, settings.spread, least))
    return tuple(note for note in notes if note)
