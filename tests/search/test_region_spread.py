"""Regions spread over slides, cases or sites, and none that scores too little.

Here a region is a tile of its own place, and its score is given, so that the ranking is known.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.errors import SettingError
from microtome.search.region_check import Checked
from microtome.search.region_placement import Placement
from microtome.search.region_ranking import rank
from microtome.search.region_result import RegionSettings
from microtome.search.spread import Spread
from support.sited_atlas import MadeSlide, make_atlas

SQUARE = shapely.box(-1, -1, 1, 1)
SITES = ("p", "p", "p", "q", "q", "r", None, None)
AT_ONCE = 4
"""Places that a look names."""


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    """Eight slides of three tiles."""
    slides = [MadeSlide(f"s{n}", np.eye(4)[:3], site=site) for n, site in enumerate(SITES)]
    return make_atlas(str(tmp_path_factory.mktemp("regions") / "atlas"), slides).tiles


class Places:
    """Names the best of those places whose tiles fulfil a condition, and counts how often."""

    def __init__(self, tiles, scores, at_once=AT_ONCE) -> None:
        rows = tiles.scanner(columns=["slide_id"], with_row_id=True).to_table()
        self.tiles, self.at_once, self.looks = tiles, at_once, 0
        self.ranking = sorted(
            (
                Checked(
                    Placement(10.0 * place, 0, 0, flipped=False),
                    slide_id,
                    similarity=score,
                    coverage=1.0,
                    row_ids=np.array([row]),
                    cosines=np.array([score], np.float32),
                )
                for place, (slide_id, row, score) in enumerate(
                    zip(
                        rows["slide_id"].to_pylist(),
                        rows["_rowid"].to_pylist(),
                        scores,
                        strict=True,
                    )
                )
            ),
            key=lambda one: (-one.score, one.slide_id, one.placement.x),
        )

    def look(self, condition: str) -> list[Checked]:
        self.looks += 1
        scanner = self.tiles.scanner(columns=[], filter=condition or None, with_row_id=True)
        there = set(scanner.to_table()["_rowid"].to_pylist())
        return [one for one in self.ranking if int(one.row_ids[0]) in there][: self.at_once]

    def ranked(self, **asked):
        return rank(SQUARE, self.tiles, self.look, RegionSettings(**asked))


def falling(count: int = 24) -> list[float]:
    """Scores by which tiles come in the order of the atlas."""
    return [1 - place / count for place in range(count)]


def slides_of(ranked) -> str:
    return " ".join(one.slide_id for one in ranked.best)


# spread, k, slides of the hits, looks
@pytest.mark.parametrize(
    ("spread", "k", "slides", "looks"),
    [
        (None, 4, "s0 s0 s0 s1", 1),
        ("slide_id=1", 2, "s0 s1", 1),
        ("slide_id=2", 5, "s0 s0 s1 s1 s2", 3),
        ("site=1", 3, "s0 s3 s5", 3),
        ("site=2", 6, "s0 s0 s3 s3 s5 s5", 3),
        ("site=1", 5, "s0 s3 s5 s6 s6", 4),  # site unknown: alike to none
        ("case_id=1", 4, "s0 s0 s0 s1", 1),  # no case is known
    ],
)
def test_looking_goes_on_until_there_are_enough(tiles, spread, k, slides, looks):
    places = Places(tiles, falling())
    ranked = places.ranked(k=k, spread=Spread.parse(spread) if spread else None)
    assert (slides_of(ranked), ranked.note) == (slides, "")
    assert places.looks <= looks


def test_where_nothing_is_left_fewer_come_and_that_is_said(tiles):
    sited = tiles.scanner(columns=[], filter="site = 'p'", with_row_id=True).to_table()
    places = Places(tiles, falling())
    places.ranking = places.ranking[: len(sited)]
    ranked = places.ranked(k=3, spread=Spread("site"))
    assert slides_of(ranked) == "s0"
    assert ranked.note == ("1 of 3 hits: no more places were found with at most 1 of each site")


def test_a_place_that_is_looked_at_every_time_takes_no_other_s_share(tiles):
    """As the query's own does."""
    places = Places(tiles, falling())
    own = places.ranking[0]
    ranked = rank(
        SQUARE,
        tiles,
        lambda condition: [own, *places.look(condition)],
        RegionSettings(k=3, spread=Spread("site")),
    )
    assert slides_of(ranked) == "s0 s3 s5"


def test_no_region_scores_less_than_asked(tiles):
    ranked = Places(tiles, falling()).ranked(k=4, min_score=0.9)
    assert [round(one.score, 2) for one in ranked.best] == [1.0, 0.96, 0.92]
    assert ranked.note == "3 of 4 hits: no other scores 0.9 or more"
    assert len(ranked.first) == AT_ONCE


def test_what_a_further_look_finds_too_little_alike_is_said_as_well(tiles):
    """The first look finds one site alone; the next ones score less than asked."""
    ranked = Places(tiles, falling()).ranked(k=3, min_score=0.8, spread=Spread("site"))
    assert (slides_of(ranked), ranked.note) == ("s0", "1 of 3 hits: no other scores 0.8 or more")


@settings(max_examples=30)
@given(
    scores=st.permutations(falling()),
    spread=st.builds(Spread, st.sampled_from(["slide_id", "site", "batch"]), st.integers(1, 3)),
    k=st.integers(1, 12),
)
def test_spread_regions_are_a_walk_down_the_whole_ranking(tiles, scores, spread, k):
    places = Places(tiles, scores, at_once=max(k, AT_ONCE))  # as a look at an atlas names them
    sites = {f"s{number}": site for number, site in enumerate(SITES)}
    counts: Counter[object] = Counter()
    walked = []
    for one in places.ranking:
        value = {"slide_id": one.slide_id, "site": sites[one.slide_id], "batch": None}[
            spread.column
        ]
        counts[value] += 1
        if value is None or counts[value] <= spread.most:
            walked.append(one)
    assert places.ranked(k=k, spread=spread).best == walked[:k]


@pytest.mark.parametrize("least", [1.01, -2, float("nan")])
def test_a_least_score_that_is_no_cosine_is_refused(least):
    with pytest.raises(SettingError, match="min_score"):
        RegionSettings(min_score=least)
