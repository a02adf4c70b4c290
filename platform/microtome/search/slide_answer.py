"""From tissue to the slides or cases that are like it, with the tiles that show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from microtome.atlas.mosaics import Numbers
from microtome.atlas.schema import vector_column
from microtome.atlas.sql import one_of
from microtome.search.filters import all_of
from microtome.search.finder import Finder, Wanted, path_of
from microtome.search.query import Query
from microtome.search.slide_asked import AskedTissue
from microtome.search.slide_bank import Bank, Tell, with_slides
from microtome.search.slide_evidence import Found, distinct, pairs_of
from microtome.search.slide_facts import Groups
from microtome.search.slide_means import by_mean
from microtome.search.slide_methods import Field, Scored, by_mosaic
from microtome.search.slide_ranking import FURTHER, Ranking, Walked
from microtome.search.slide_result import Method, SlideSettings
from microtome.search.slide_view import SlideView
from microtome.search.slide_votes import (
    MOST_VOTERS,
    Ballot,
    Roll,
    by_votes,
    nearest_of_each,
    with_further,
)
from microtome.slides.slide import Scalar


@dataclass(frozen=True, slots=True)
class Asking:
    """A query as it is being answered.

    Attributes:
        query: what was asked.
        asked: what it is.
        settings: how.
        method: by which slides are compared.
        view: what is searched.
    """

    query: Query
    asked: AskedTissue
    settings: SlideSettings
    method: Method
    view: SlideView

    @property
    def where(self) -> str | None:
        """The condition on tiles that may be found."""
        return all_of(self.settings.where or "", self.settings.visible or "")

    @property
    def groups(self) -> Groups:
        """How slides are taken together."""
        return self.view.ground.facts.groups(self.settings.level)


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found.

    Attributes:
        groups: of the hits, best first.
        scores: theirs.
        found: their slides and matching tiles.
        exact: whether everything was compared.
        coverage: see `SlideResult`.
        notes: what a reader should know.
        low: whether there are others, which score too little.
    """

    groups: Sequence[int]
    scores: Sequence[float]
    found: Sequence[Found]
    exact: bool
    coverage: float
    notes: tuple[str, ...]
    low: bool


def answer_by_mosaics(asking: Asking, tell: Tell) -> Answer:
    """By mosaics, or mean vectors.

    Raises:
        IndexUnusable: stored mosaics are damaged.
    """
    settings, tissue = asking.settings, asking.asked.tissue
    shared = asking.view.bank(asking.where, tell)
    bank = with_slides(shared, asking.view.ground, asking.asked.slides, asking.where)
    field = Field(bank, _groups_of(bank, asking), settings.k, settings.exact, settings.effort)
    scored, walked = _compared(asking, field)
    best = walked.places
    found = []
    for group in scored.groups[best].tolist():
        numbers = np.flatnonzero(field.groups == group)
        pairs = pairs_of(tissue, bank, numbers, settings.evidence)
        found.append(Found(tuple(sorted(bank.slide_ids[numbers])), pairs))
    return Answer(
        scored.groups[best].tolist(),
        scored.scores[best].tolist(),
        found,
        scored.exact,
        bank.searched / bank.passing if bank.passing else 1.0,
        _about_bank(bank, asking.view),
        walked.low,
    )


def answer_by_votes(asking: Asking, finder: Finder) -> Answer:
    """By the votes of the tiles nearest to each tile of the query."""
    settings, facts = asking.settings, asking.view.ground.facts
    roll = Roll(facts, asking.groups, asking.view.tile_counts(settings.visible))
    wanted = Wanted(
        max(settings.k, roll.voters),
        asking.where,
        asking.asked.exclusion,
        exact=settings.exact,
        effort=settings.effort,
    )
    ballot, walked = _voted(asking, finder, roll, wanted)
    best = walked.places
    groups = ballot.scored.groups[best].tolist()
    slides = _passing(asking, wanted, [facts.slide_ids[asking.groups.of == g] for g in groups])
    found = [
        Found(own, distinct(ballot.pairs[group], settings.evidence))
        for group, own in zip(groups, slides, strict=True)
    ]
    coverage = _covered(asking)
    notes = () if coverage == 1 else ("tiles without a vector of this model were not searched",)
    return Answer(
        groups,
        ballot.scored.scores[best].tolist(),
        found,
        ballot.scored.exact,
        coverage,
        notes,
        walked.low,
    )


def _compared(asking: Asking, field: Field) -> tuple[Scored, Walked]:
    """The best by mosaics or mean vectors, and which of them are hits.

    Where candidates are too few, what has its share of the hits is left out of the next ones; where
    nothing has, more are looked up, in the end all; or, where some score too little, until that
    brings no further hit.
    """
    settings, facts = asking.settings, asking.view.ground.facts
    compare = by_mosaic if asking.method == "mosaic" else by_mean
    there = np.zeros(len(facts.slide_ids), np.bool_)
    there[field.bank.places[field.groups >= 0]] = True
    ranking = Ranking(settings, facts, asking.groups, there)
    scored = found = compare(asking.asked.tissue, field)
    walked, before = ranking.walk(scored), 0
    while not (walked.ends(settings.k, before) or found.exact):
        before = len(walked.places)
        full = ranking.of_values(walked.full)
        left_out = np.isin(field.groups, full)
        further = FURTHER if walked.low or not left_out.any() else 1
        others = np.where(left_out, -1, field.groups)
        field = replace(field, groups=others, effort=field.effort * further)
        kept = walked.places[np.isin(scored.groups[walked.places], full)]
        found = compare(asking.asked.tissue, field)
        scored = scored.at(kept).and_more(found)
        walked = ranking.walk(scored)
    return scored, walked


def _voted(asking: Asking, finder: Finder, roll: Roll, wanted: Wanted) -> tuple[Ballot, Walked]:
    """Who was voted for, and which of them are hits.

    Where they are too few more tiles vote, and in the end those that are nearest among the slides
    that don't have their share of the hits yet.
    """
    settings, view, tissue = asking.settings, asking.view.tiles, asking.asked.tissue
    ranking = Ranking(settings, asking.view.ground.facts, asking.groups, _there(asking))
    exact, full = path_of(view, wanted) == "exact", tuple[Scalar, ...]()
    near = found = nearest_of_each(tissue.vectors, finder, view, wanted)
    while True:
        ballot = by_votes(tissue, near, view, roll, exact)
        walked = ranking.walk(ballot.scored)
        more = any(len(row_ids) == wanted.k for row_ids, _ in found)
        if len(walked.places) >= settings.k or not more:
            return ballot, walked
        if wanted.k < MOST_VOTERS:
            wanted = replace(wanted, k=wanted.k * 8)
            near = found = nearest_of_each(tissue.vectors, finder, view, wanted)
        elif len(walked.full) > len(full):
            full = walked.full
            others = replace(wanted, where=all_of(asking.where or "", ranking.without(full)))
            found = nearest_of_each(tissue.vectors, finder, view, others)
            near = with_further(near, found)
        else:
            return ballot, walked


def _there(asking: Asking) -> NDArray[np.bool_]:
    """(F,) which slides have tiles that may be found; as far as a case's slides need to agree."""
    facts, exclusion = asking.view.ground.facts, asking.asked.exclusion
    there = np.ones(len(facts.slide_ids), np.bool_)
    if asking.settings.spread and asking.settings.level == "case":
        there = asking.view.tile_counts(asking.where) > 0
        there &= True if exclusion is None else ~facts.among(exclusion)
    return there


def _groups_of(bank: Bank, asking: Asking) -> Numbers:
    """(N,) the group of each slide of a bank; −1 for those that may not be found."""
    facts, exclusion = asking.view.ground.facts, asking.asked.exclusion
    there = bank.places >= 0
    if exclusion is not None:
        there = there & ~facts.among(exclusion)[bank.places]
    of = asking.groups.of
    return np.where(there, of[bank.places], -1) if len(of) else np.full(len(there), -1)


def _passing(
    asking: Asking, wanted: Wanted, groups: Sequence[Sequence[str]]
) -> list[tuple[str, ...]]:
    """Of the slides of each group those that have tiles which may be found, sorted."""
    if wanted.condition is None:
        return [tuple(sorted(own)) for own in groups]
    named = one_of("slide_id", (slide_id for own in groups for slide_id in own))
    where = all_of(named, wanted.condition)
    seen = asking.view.ground.tiles.to_table(columns=["slide_id"], filter=where)
    there = set(seen["slide_id"].to_pylist())
    return [tuple(sorted(there.intersection(own))) for own in groups]


def _covered(asking: Asking) -> float:
    """Share of the tiles that pass which have a vector of the model."""
    ground = asking.view.ground
    present = f"{vector_column(ground.model_id)} IS NOT NULL"
    passing = ground.tiles.count_rows(asking.where)
    with_vector = ground.tiles.count_rows(all_of(asking.where or "", present))
    return with_vector / passing if passing else 1.0


def _about_bank(bank: Bank, view: SlideView) -> tuple[str, ...]:
    notes = []
    if view.problem:
        notes.append(
            f"the stored mosaics can't be used: {view.problem}; others were made for this search. "
            "`microtome maintain` makes them anew"
        )
    if bank.bare:
        notes.append(
            f"{bank.bare:,} of {bank.passing:,} slides have no vector of this model and were not "
            "searched"
        )
    if bank.unsearched:
        notes.append(
            f"{bank.unsearched:,} of {bank.passing:,} slides have no mosaic yet and were not "
            "searched. `microtome maintain` makes them"
        )
    return tuple(notes)
