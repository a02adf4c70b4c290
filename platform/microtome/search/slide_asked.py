"""The tissue that a search for slides asks with: a whole slide, a case, or anything smaller."""

from __future__ import annotations

from dataclasses import dataclass

from microtome.atlas.atlas import Atlas
from microtome.atlas.mosaic import Mosaic
from microtome.atlas.sql import one_of, quoted
from microtome.errors import ModelMismatch, QueryUnreadable, SlideUnknown
from microtome.search.exclusion import check_column, column_of, own_exclusion, own_value
from microtome.search.filters import Exclusion, all_of
from microtome.search.query import CaseQuery, SlideQuery
from microtome.search.result import Hit
from microtome.search.searcher import Prepared
from microtome.search.slide_facts import SlideFacts
from microtome.search.slide_methods import Tissue
from microtome.search.slide_result import SlideSettings
from microtome.search.slide_view import SlideView
from microtome.slides.slide import Pixels


@dataclass(frozen=True, slots=True)
class AskedTissue:
    """A query that was looked at.

    Attributes:
        tissue: what is compared.
        exclusion: what is left out.
        notes: what a reader of the hits should know.
        slides: of the atlas, that it is or comes from.
        tile: the tile, where it was asked for by id.
        pixels: the picture, where it was asked for by image or region.
    """

    tissue: Tissue
    exclusion: Exclusion | None
    notes: tuple[str, ...] = ()
    slides: tuple[str, ...] = ()
    tile: Hit | None = None
    pixels: Pixels | None = None

    @classmethod
    def of(cls, prepared: Prepared) -> AskedTissue:
        """Of what the tile search asks with; each of its vectors counts alike."""
        asked = prepared.asked
        own = (asked.slide_id,) if asked.slide_id else ()
        tissue = Tissue.of(prepared.vectors)
        return cls(tissue, prepared.exclusion, prepared.notes, own, asked.tile, asked.pixels)


def ask_whole(
    query: SlideQuery | CaseQuery, atlas: Atlas, view: SlideView, settings: SlideSettings
) -> AskedTissue:
    """The mosaic of a slide, or those of a case's slides joined.

    Raises:
        SlideUnknown: the atlas holds no such slide or case, that is visible.
        QueryUnreadable: it holds no tiles.
        ModelMismatch: none of its tiles has a vector of the model.
        SettingError: `exclude` names a column that the atlas hasn't.
        IndexUnusable: its stored mosaic is damaged.
    """
    slide_ids = _slides_of(query, atlas, view, settings.visible)
    mosaics = view.mosaics(slide_ids, settings.visible)
    if not mosaics:
        model_id = view.ground.model_id
        raise ModelMismatch(
            f"no tile of {query.text} has a vector of {atlas.models[model_id].name} ({model_id})",
            remedy="Embed it first with `microtome embed --model`, or ask with another model.",
        )
    exclusion, notes = _exclusion(query, atlas, view.ground.facts, slide_ids, settings)
    if len(mosaics) < len(slide_ids):
        notes += (f"{len(slide_ids) - len(mosaics)} of its slides have no vector of this model",)
    tissue = Tissue.of_mosaic(Mosaic.joined(mosaics))
    return AskedTissue(tissue, exclusion, notes, tuple(slide_ids))


def _slides_of(
    query: SlideQuery | CaseQuery, atlas: Atlas, view: SlideView, visible: str | None
) -> list[str]:
    """Its slides that have tiles which are visible, sorted."""
    facts = view.ground.facts
    if isinstance(query, SlideQuery):
        kind, name, slide_ids = "slide", query.slide_id, facts.named(slide_id=query.slide_id)
    else:
        kind, name, slide_ids = "case", query.case_id, facts.named(case_id=query.case_id)
    if slide_ids and visible is not None:
        where = all_of(one_of("slide_id", slide_ids), visible)
        seen = view.ground.tiles.to_table(columns=["slide_id"], filter=where)
        slide_ids = sorted(set(seen["slide_id"].to_pylist()))
    if slide_ids:
        return slide_ids
    if visible is None and facts.dataset.count_rows(f"{kind}_id = {quoted(name)}"):
        raise QueryUnreadable(
            f"{query.text} holds no tiles", remedy="Ask with one that holds tissue."
        )
    raise SlideUnknown(
        f"the atlas {atlas.uri} holds no {kind} {name}",
        remedy=f"List its slides with `microtome slides --atlas {atlas.uri}`.",
    )


def _exclusion(
    query: SlideQuery | CaseQuery,
    atlas: Atlas,
    facts: SlideFacts,
    slide_ids: list[str],
    settings: SlideSettings,
) -> tuple[Exclusion | None, tuple[str, ...]]:
    column = column_of(settings.exclude)
    if isinstance(query, SlideQuery):
        case_id = facts.case_ids[facts.places[query.slide_id]]
        if column == "case_id" and case_id is not None:  # known without reading the table
            return Exclusion(column, case_id), ()
        return own_exclusion(atlas, query.slide_id, settings.exclude)
    if column is None:
        return None, ()
    check_column(atlas, "exclude", column)
    own = Exclusion("case_id", query.case_id)
    if column in {"slide_id", "case_id"}:
        return own, ()
    values = {own_value(atlas, slide_id, column) for slide_id in slide_ids}
    if len(values) == 1 and None not in values:
        return Exclusion(column, values.pop()), ()
    return own, (f"the case has no one {column}: only the case itself was excluded",)
