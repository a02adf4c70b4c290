"""Slides and cases spread over cases and sites: no more of each than allowed, and the best."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.errors import SettingError
from microtome.search import slide_answer
from microtome.search.query import CaseQuery, SlideQuery, TileQuery, VectorQuery
from microtome.search.slide_result import SlideSettings
from microtome.search.slide_searcher import SlideSearcher
from microtome.search.spread import Spread
from support.quilts import METHODS, names, search
from support.sited_atlas import MadeSlide, make_atlas, tile_id


def fan(*degrees: float) -> np.ndarray:
    """Unit vectors at angles: what is nearer in angle looks more alike."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles), 0 * angles, 0 * angles], axis=1)


NORTH = VectorQuery(fan(0))
SLIDES = [  # the angle from the query gives the ranking
    MadeSlide("a1", fan(1), case_id="A", site="x", batch=1),
    MadeSlide("a2", fan(5), case_id="A", site="x", batch=2),
    MadeSlide("b", fan(20), case_id="B", site="x"),
    MadeSlide("c1", fan(30), case_id="C", site="y", batch=3),
    MadeSlide("c2", fan(35), case_id="C", site="z", batch=3),
    MadeSlide("d", fan(40), site="y"),
    MadeSlide("e", fan(50)),
]


@pytest.fixture(scope="module")
def searcher(tmp_path_factory):
    return SlideSearcher(make_atlas(str(tmp_path_factory.mktemp("spread") / "atlas"), SLIDES))


# level, spread, k, hits
@pytest.mark.parametrize(
    ("level", "spread", "k", "found"),
    [
        ("slide", None, 3, "a1 a2 b"),
        ("slide", "case_id=1", 3, "a1 b c1"),
        ("slide", "case_id=1", 9, "a1 b c1 d e"),  # case unknown: each its own
        ("slide", "case_id=2", 4, "a1 a2 b c1"),
        ("slide", "site=1", 9, "a1 c1 c2 e"),
        ("slide", "site=2", 4, "a1 a2 c1 c2"),
        ("slide", "batch=1", 9, "a1 a2 b c1 d e"),
        ("case", "site=1", 9, "A C d e"),  # the slides of C don't agree: alike to none
        ("case", "site=2", 3, "A B C"),
        ("case", "batch=1", 9, "A B C d e"),
    ],
)
@pytest.mark.parametrize("method", ["mosaic", "mean"])
def test_no_value_has_more_hits_than_allowed_and_the_best_are_kept(
    searcher, method, level, spread, k, found
):
    chosen = Spread.parse(spread) if spread else None
    result = search(searcher, NORTH, level=level, k=k, spread=chosen, method=method)
    assert names(result) == found.split()


# votes are divided by the size of a case, so C comes last
@pytest.mark.parametrize(
    ("level", "spread", "k", "found"),
    [
        ("slide", "case_id=1", 9, "a1 b c1 d e"),
        ("slide", "site=2", 4, "a1 a2 c1 c2"),
        ("case", None, 9, "A B d e C"),
        ("case", "site=1", 9, "A d e C"),
    ],
)
def test_votes_are_spread_as_well(searcher, level, spread, k, found):
    chosen = Spread.parse(spread) if spread else None
    result = search(searcher, NORTH, level=level, k=k, spread=chosen, method="votes")
    assert names(result) == found.split()


@pytest.mark.parametrize("method", METHODS)
def test_what_may_not_be_found_says_nothing_of_a_case(searcher, method):
    """Without c2 the case C is of site y, as d is."""
    asked = {"level": "case", "k": 9, "spread": Spread("site"), "method": method}
    for hiding in ({"visible": "slide_id <> 'c2'"}, {"where": "slide_id <> 'c2'"}):
        result = search(searcher, NORTH, **asked, **hiding)
        assert [hit.metadata["site"] for hit in result.hits] == ["x", "y", None]


@pytest.mark.parametrize("method", METHODS)
def test_spread_and_exclusion_hold_together(searcher, method):
    asked = {"method": method, "exclude": "case", "k": 9, "spread": Spread("site")}
    assert names(search(searcher, SlideQuery("a1"), **asked)) == ["b", "c1", "c2", "e"]
    cases = names(search(searcher, CaseQuery("A"), level="case", **asked))
    assert (cases[0], set(cases)) == ("B", {"B", "C", "d", "e"})


def test_where_nothing_is_left_fewer_hits_come_and_that_is_said(searcher):
    for method, why in (
        ("mosaic", "there are no more slides to search with at most 1 of each site"),
        ("votes", "no others have any of the tiles nearest to the query"),
    ):
        result = search(searcher, NORTH, k=5, spread=Spread("site"), method=method)
        (note,) = result.notes
        assert note.startswith(f"4 of 5 hits: {why}")


@pytest.mark.parametrize("method", ["mosaic", "mean"])
def test_no_hit_scores_less_than_asked(searcher, method):
    asked = {"method": method, "min_score": 0.9}
    result = search(searcher, NORTH, **asked)
    assert names(result) == ["a1", "a2", "b"]
    assert result.notes == ("3 of 10 hits: no other scores 0.9 or more",)
    assert names(search(searcher, NORTH, **asked, spread=Spread("case_id"))) == ["a1", "b"]


# what is asked, what the refusal says
@pytest.mark.parametrize(
    ("query", "asked", "said"),
    [
        (NORTH, {"min_score": 0.5}, "min_score says nothing where .* by votes"),
        (SlideQuery("b"), {"min_score": 0.5, "method": "votes"}, "min_score says nothing"),
        (NORTH, {"spread": Spread("hospital")}, "'hospital'"),
    ],
)
def test_what_makes_no_sense_is_refused(searcher, query, asked, said):
    with pytest.raises(SettingError, match=said):
        search(searcher, query, **asked)


@pytest.mark.parametrize(
    ("level", "column"), [("slide", "slide_id"), ("case", "slide_id"), ("case", "case_id")]
)
def test_what_no_two_hits_share_is_nothing_to_spread_over(level, column):
    with pytest.raises(SettingError, match=f"{column} says nothing where a {level} is looked for"):
        SlideSettings(level=level, spread=Spread(column))


@pytest.mark.parametrize("least", [1.01, -2, float("nan")])
def test_a_least_score_that_is_no_cosine_is_refused(least):
    with pytest.raises(SettingError, match="min_score"):
        SlideSettings(min_score=least)


SITES = ("p", "q", "r", None)


@pytest.fixture(scope="module")
def around(tmp_path_factory):
    """30 slides around the circle, some of them of a case."""
    draw = np.random.default_rng(0)
    slides = [
        MadeSlide(
            f"s{number:02}",
            fan(12 * number + draw.uniform(0, 9)),
            case_id=None if number % 7 == 0 else f"c{draw.integers(12):02}",
            site=SITES[draw.integers(4)],
        )
        for number in range(30)
    ]
    return SlideSearcher(make_atlas(str(tmp_path_factory.mktemp("around") / "atlas"), slides))


@settings(max_examples=30)
@given(
    degrees=st.integers(0, 359),
    asked=st.sampled_from(
        [("slide", "case_id"), ("slide", "site"), ("case", "site"), ("case", "scanner")]
    ),
    method=st.sampled_from(["mosaic", "mean"]),
    most=st.integers(1, 3),
    k=st.integers(1, 12),
)
def test_spread_hits_are_a_walk_down_the_whole_ranking(around, degrees, asked, method, most, k):
    level, column = asked
    query = VectorQuery(fan(degrees))
    of_all = SlideSettings(k=99, level=level, method=method)
    ranking = around.search(query, of_all).hits
    counts: Counter[object] = Counter()
    walked = []
    for hit in ranking:
        value = hit.case_id if column == "case_id" else hit.metadata[column]
        counts[value] += 1
        if value is None or counts[value] <= most:
            walked.append(hit)
    spread = around.search(query, replace(of_all, k=k, spread=Spread(column, most))).hits
    assert [hit.slides for hit in spread] == [hit.slides for hit in walked[:k]]


@pytest.mark.parametrize("level", ["slide", "case"])
def test_one_site_that_casts_all_votes_does_not_starve_the_others(tmp_path, monkeypatch, level):
    monkeypatch.setattr(slide_answer, "MOST_VOTERS", 50)
    draw = np.random.default_rng(0)
    crowd = [
        MadeSlide(f"n{number}", fan(*draw.uniform(0, 10, 40)), site="near") for number in range(20)
    ]
    far = [MadeSlide(f"f{n}", fan(*[60 + n] * 20), site=f"far {n}") for n in range(4)]
    searcher = SlideSearcher(make_atlas(str(tmp_path / "atlas"), [*crowd, *far]))
    result = search(searcher, TileQuery(tile_id(0)), level=level, k=4, spread=Spread("site"))
    assert result.hits[0].metadata["site"] == "near"
    assert names(result)[1:] == ["f0", "f1", "f2"]
    assert [hit.evidence[0].tile.slide_id for hit in result.hits[1:]] == ["f0", "f1", "f2"]
