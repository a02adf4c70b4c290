"""Search an atlas for regions: places where tissue looks like the query, lying as it lies there.

1. Vectors are made of what the query shows around many of its points (`region_bank`).
2. The stored tiles nearest to each vote for where the query could lie (`region_votes`).
3. Around each such spot the placement is found that agrees best with the stored vectors, moved,
   turned and mirrored (`region_fit`); nothing is embedded for that.
4. The query is drawn anew as the best placements say, cut where the slide's tiles lie, and
   compared tile by tile (`region_check`): that is the score.
5. Of placements that overlap, the best stays; hits may be spread over slides, cases or sites, for
   which it may take further looks at the atlas (`region_ranking`).

So the model is given at most `POINTS` + 4 · `PROBES` + (1 + `CHECKED`) · `TILES` pictures, 461, and
one that isn't blind to turns 8 · `VIEWED_POINTS` in the place of `POINTS`, 589: whatever the
region's size, and more only for more hits than ten, more effort, or further looks (180 each).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, cast

import numpy as np
import shapely

from microtome.atlas.atlas import Atlas
from microtome.atlas.schema import vector_column
from microtome.atlas.tables import reading
from microtome.errors import ModelMismatch
from microtome.models.encoder import Encoder
from microtome.search.exact import Nearest
from microtome.search.exclusion import check_column, own_exclusion
from microtome.search.filters import Exclusion, all_of, check_filter, filter_errors
from microtome.search.finder import Finders, View, Wanted, path_of
from microtome.search.hits import read_hits
from microtome.search.ranking import about_index, about_vectors
from microtome.search.region_around import Stored
from microtome.search.region_asked import LookedAt, looked_at
from microtome.search.region_bank import Bank, fill
from microtome.search.region_candidates import Field, candidates
from microtome.search.region_check import Checked, check
from microtome.search.region_eye import Eye
from microtome.search.region_near import level0_px_per_grid_px, nearest_of_each
from microtome.search.region_placement import moved
from microtome.search.region_ranking import rank
from microtome.search.region_result import AskedRegion, RegionHit, RegionResult, RegionSettings
from microtome.search.result import SearchSettings

VOTERS: Final = 128
"""Points of the query for which tiles vote, an even sample."""

NEIGHBOURS: Final = 64
"""Tiles that vote for each of them: enough to name other places than the very same."""

CHECKED: Final = 20
"""Placements that are compared by new pictures; twice the hits, where those are more than ten."""

LEAST_TISSUE: Final = 0.25
"""Of a region; of one with less, it is said."""


class RegionSearcher:
    """Finds regions that look alike, however they are turned.

    Args:
        atlas: what is searched.
        encoder: embeds the query; a callable is called when first needed.
        finders: shared with other searchers of the atlas.
    """

    def __init__(
        self,
        atlas: Atlas,
        encoder: Encoder | Callable[[], Encoder],
        finders: Finders | None = None,
    ) -> None:
        self._atlas = atlas
        self._encoder = encoder
        self._finders = finders or Finders(atlas)

    def search(self, query: AskedRegion, settings: RegionSettings | None = None) -> RegionResult:
        """Find the regions that look most like a query: see the module's docstring.

        A drawn region finds itself first, unless its slide, case or group is excluded. Where the
        query's case or group is unknown, its slide is excluded instead, and a note says so.

        Raises:
            FilterInvalid: `where` isn't a condition over the columns of `tiles`.
            ModelMismatch: the atlas has no vectors of the model.
            QueryError, SlideError, SettingError: see `looked_at`.
            AtlasDamaged: a file of the atlas can't be read.
        """
        settings = settings or RegionSettings()
        with reading(self._atlas.uri, "tiles"):
            if settings.where is not None:
                check_filter(self._atlas.tiles, settings.where)
            if settings.spread is not None:
                check_column(self._atlas, "spread", settings.spread.column)
            encoder, tile_px = self._loaded(settings), self._atlas.grid.tile_px
            with looked_at(query, self._atlas, settings) as asked:
                return self._search(query, asked, Eye(asked, encoder, tile_px), settings)

    def _search(
        self, query: AskedRegion, asked: LookedAt, eye: Eye, settings: RegionSettings
    ) -> RegionResult:
        card, atlas = eye.encoder.card, self._atlas
        exclusion, left_out = own_exclusion(atlas, asked.slide_id, settings.exclude)
        finder = self._finders.of(card.model_id)
        view = finder.view()
        wanted = _wanted(settings, exclusion)
        bank = fill(eye, asked.outline, atlas.grid.tile_px, settings.effort)
        voters = bank.fewer(VOTERS)
        counted: list[Nearest] = []  # at each look
        stored = Stored(view.tiles, vector_column(card.model_id), atlas.grid, settings.where)
        asked = asked if exclusion is None else replace(asked, own=None)

        def look(condition: str) -> list[Checked]:
            further = replace(wanted, where=all_of(wanted.where or "", condition))
            with filter_errors(view.tiles, settings.where):
                near = nearest_of_each(finder, view, card.model_id, voters.all_vectors, further)
            counted.append(near.counted)
            most = max(CHECKED, 2 * settings.k)
            fits = candidates(Field(atlas, stored), asked, (bank, voters), near, most)
            return check(eye, stored, asked.outline, fits)

        ranked = rank(asked.outline, view.tiles, look, settings)
        notes = (
            *_about(asked, bank, atlas.grid.tile_px),
            ranked.note,
            _about_home(asked, ranked.first),
            about_index(view, SearchSettings(exact=settings.exact)),
            about_vectors(counted[0]),
        )
        return RegionResult(
            hits=self._hits(view, asked, ranked.best),
            query=query,
            settings=settings,
            model_id=card.model_id,
            model_name=card.name,
            path=path_of(view, wanted),
            tiles_version=view.tiles.version,
            coverage=counted[0].scored / counted[0].seen if counted[0].seen else 1.0,
            embedded=eye.embedded,
            notes=(*asked.notes, *left_out, *(note for note in notes if note)),
            pixels=asked.pixels,
        )

    def _loaded(self, settings: RegionSettings) -> Encoder:
        """The encoder, whose vectors the atlas must hold."""
        if not hasattr(self._encoder, "encode"):
            self._encoder = self._encoder()
        encoder = cast(Encoder, self._encoder)
        card, held = encoder.card, self._atlas.models
        if card.model_id not in held or settings.model_id not in {None, card.model_id}:
            names = ", ".join(f"{known.name} ({model_id})" for model_id, known in held.items())
            raise ModelMismatch(
                f"the query would be embedded by {card.name} ({card.model_id}), but compared with "
                f"vectors of {settings.model_id or names}",
                remedy="Ask with a model that the atlas was indexed with, and one model for both.",
            )
        return encoder

    def _hits(self, view: View, asked: LookedAt, best: list[Checked]) -> tuple[RegionHit, ...]:
        factors = level0_px_per_grid_px(self._atlas, [one.slide_id for one in best])
        return tuple(_hit(view, asked.drawn, one, factors[one.slide_id]) for one in best)


def _wanted(settings: RegionSettings, exclusion: Exclusion | None) -> Wanted:
    return Wanted(
        NEIGHBOURS + 1,  # the last is what the others are held to
        settings.where,
        exclusion,
        exact=settings.exact,
        effort=settings.effort,
    )


def _hit(view: View, drawn: Any, one: Checked, factor: float) -> RegionHit:
    corners = shapely.get_coordinates(moved(drawn, one.placement))[:-1] * factor
    tiles = read_hits(view.tiles, one.row_ids.tolist(), one.cosines.tolist())
    return RegionHit(
        slide_id=one.slide_id,
        case_id=tiles[0].case_id,
        polygon=tuple((x, y) for x, y in np.round(corners, 1).tolist()),
        score=one.score,
        similarity=one.similarity,
        coverage=one.coverage,
        angle_deg=one.placement.angle_deg,
        flipped=one.placement.flipped,
        tiles=tiles,
        metadata=tiles[0].metadata,
    )


def _about_home(asked: LookedAt, checked: list[Checked]) -> str:
    if asked.own is None or any(one.placement is asked.own for one in checked):
        return ""
    return "no tile that was searched lies in the drawn region: it isn't among its own hits"


def _about(asked: LookedAt, bank: Bank, tile_px: int) -> list[str]:
    notes = []
    if not bank.dense:
        wide = 2 * asked.reach_px / tile_px
        notes.append(
            f"the region is {wide:.0f} tiles across: {len(bank.points):,} places of it were "
            "looked at, an even sample"
        )
    if asked.outline.area < tile_px**2:
        notes.append("the region is smaller than a tile: it was compared with what surrounds it")
    if bank.tissue < LEAST_TISSUE:
        notes.append(f"only {bank.tissue:.0%} of the region is tissue; the rest looks like glass")
    return notes
