"""The library's searchers for tiles, regions, slides and cases, asked in one way."""

from __future__ import annotations

from microtome.atlas.atlas import Atlas
from microtome.errors import SettingError
from microtome.models.encoder import Encoder
from microtome.search.calibration import Calibrating
from microtome.search.filters import all_of
from microtome.search.finder import Finders
from microtome.search.polygon_query import PolygonQuery
from microtome.search.query import ImageQuery, RegionQuery
from microtome.search.region_result import RegionResult, RegionSettings
from microtome.search.region_searcher import RegionSearcher
from microtome.search.result import SearchResult, SearchSettings
from microtome.search.searcher import Searcher
from microtome.search.slide_result import SlideResult, SlideSettings
from microtome.search.slide_searcher import SlideSearcher
from microtome.search.spread import Spread
from microtome.search.trust import Trust
from microtome_serve.asking import Ask

Result = SearchResult | RegionResult | SlideResult


class Levels:
    """Searches an atlas with one model.

    Args:
        atlas: what is searched.
        encoder: embeds what is asked with; its card is asked for only when it is needed.
        trust: judges which tiles were found.
    """

    def __init__(self, atlas: Atlas, encoder: Encoder, trust: Trust) -> None:
        finders = Finders(atlas)
        self.tiles = Searcher(atlas, encoder, finders, trust)
        self._regions = RegionSearcher(atlas, encoder, finders)
        self._slides = SlideSearcher(atlas, encoder, finders=finders)

    def search(self, ask: Ask, model_id: str, chosen: str | None, rows: str | None) -> Result:
        """What there is that looks like what is asked with.

        Args:
            ask: the question.
            model_id: whose vectors are compared.
            chosen: the client's conditions, in Lance's SQL.
            rows: what exists for whoever asks.

        Raises:
            As the searchers.
        """
        if ask.level == "tile":
            return self.tiles.search(ask.query, tile_settings(ask, model_id, chosen, rows))
        if ask.alpha is not None or ask.site_columns:
            raise SettingError(
                f"alpha and site_columns are for tiles, not for the level {ask.level}"
            )
        if ask.level == "region":
            return self._search_regions(ask, model_id, all_of(chosen or "", rows or ""))
        settings = SlideSettings(
            k=ask.depth,
            level=ask.level,
            method=ask.method,
            where=chosen,
            exclude=ask.exclude,
            model_id=model_id,
            query_mpp=ask.query_mpp,
            exact=ask.exact,
            spread=_spread(ask),
            min_score=ask.min_score,
            visible=rows,
        )
        return self._slides.search(ask.query, settings)

    def _search_regions(self, ask: Ask, model_id: str, where: str | None) -> RegionResult:
        if not isinstance(ask.query, ImageQuery | RegionQuery | PolygonQuery):
            raise SettingError("regions are found by a region, a polygon or a picture")
        settings = RegionSettings(
            k=ask.depth,
            where=where,
            exclude=ask.exclude,
            model_id=model_id,
            query_mpp=ask.query_mpp,
            exact=ask.exact,
            spread=_spread(ask),
            min_score=ask.min_score,
        )
        return self._regions.search(ask.query, settings)


def tile_settings(ask: Ask, model_id: str, chosen: str | None, rows: str | None) -> SearchSettings:
    """How tiles are searched for a question, see `Levels.search`."""
    return SearchSettings(
        k=ask.depth,
        where=all_of(chosen or "", rows or ""),
        exclude=ask.exclude,
        model_id=model_id,
        query_mpp=ask.query_mpp,
        exact=ask.exact,
        spread=_spread(ask),
        min_score=ask.min_score,
        calibrating=None if ask.alpha is None else Calibrating(ask.alpha),
        site_columns=ask.site_columns,
    )


def _spread(ask: Ask) -> Spread | None:
    return None if ask.spread is None else Spread(*ask.spread)
