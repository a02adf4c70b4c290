from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.atlas.index_building import refresh_index
from microtome.errors import SettingError
from microtome.search.query import TileQuery, VectorQuery
from microtome.search.result import SearchSettings
from microtome.search.searcher import Searcher
from microtome.search.spread import Spread
from support.sited_atlas import MadeSlide, make_atlas, tile_id


def fan(*degrees: float) -> np.ndarray:
    """Unit vectors at angles: what is nearer in angle looks more alike."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles), 0 * angles, 0 * angles], axis=1)


NORTH = VectorQuery(fan(0))
SLIDES = [  # the angle from the query gives the ranking
    MadeSlide("a1", fan(1, 2, 3, 4), case_id="A", site="x", batch=1),
    MadeSlide("a2", fan(5, 6), case_id="A", site="x", batch=2),
    MadeSlide("b", fan(20, 21), case_id="B", site="x", batch=3),
    MadeSlide("c", fan(30), case_id="C", site="y", batch=3),
    MadeSlide("d", fan(40, 41), site="y"),
]


@pytest.fixture(scope="module")
def searcher(tmp_path_factory):
    return Searcher(make_atlas(str(tmp_path_factory.mktemp("spread") / "atlas"), SLIDES))


def degrees_of(result) -> list[int]:
    return [round(float(np.degrees(np.arccos(min(1.0, hit.score))))) for hit in result.hits]


# spread, k, angles of the hits
@pytest.mark.parametrize(
    ("spread", "k", "degrees"),
    [
        (None, 3, [1, 2, 3]),
        ("slide_id=1", 4, [1, 5, 20, 30]),
        ("slide_id=2", 5, [1, 2, 5, 6, 20]),
        ("case_id=1", 3, [1, 20, 30]),
        ("case_id=1", 5, [1, 20, 30, 40, 41]),  # case unknown: each its own
        ("case_id=2", 5, [1, 2, 20, 21, 30]),
        ("site=1", 2, [1, 30]),
        ("batch=1", 9, [1, 5, 20, 40, 41]),
    ],
)
def test_no_value_has_more_hits_than_allowed_and_the_best_are_kept(searcher, spread, k, degrees):
    chosen = Spread.parse(spread) if spread else None
    result = searcher.search(NORTH, SearchSettings(k=k, spread=chosen))
    assert degrees_of(result) == degrees


def test_where_nothing_is_left_fewer_hits_come_and_that_is_said(searcher):
    result = searcher.search(NORTH, SearchSettings(k=3, spread=Spread("site", 1)))
    assert degrees_of(result) == [1, 30]
    assert result.notes == (
        "2 of 3 hits: there are no more tiles to search with at most 1 of each site",
    )


def test_spread_filter_and_exclusion_hold_together(searcher):
    query = TileQuery(tile_id(0))
    wanted = SearchSettings(k=9, where="batch < 3", exclude="slide", spread=Spread("case_id", 1))
    assert [hit.slide_id for hit in searcher.search(query, wanted).hits] == ["a2"]


def test_coverage_is_that_of_all_tiles_searched(searcher):
    assert searcher.search(NORTH, SearchSettings(k=5, spread=Spread("case_id"))).coverage == 1.0


# least score, hits, what is said of it
@pytest.mark.parametrize(
    ("least", "k", "degrees", "note"),
    [
        (0.9, 6, [1, 2, 3, 4, 5, 6], None),
        (0.99, 9, [1, 2, 3, 4, 5, 6], "6 of 9 hits: no other scores 0.99 or more"),
        (1.0, 2, [], "0 of 2 hits: no other scores 1 or more"),
        (-1.0, 99, [1, 2, 3, 4, 5, 6, 20, 21, 30, 40, 41], "11 of 99 hits"),
    ],
)
def test_no_hit_scores_less_than_asked(searcher, least, k, degrees, note):
    result = searcher.search(NORTH, SearchSettings(k=k, min_score=least))
    assert degrees_of(result) == degrees
    assert len(result.notes) == (note is not None)
    assert all(said.startswith(note or "") for said in result.notes)


def test_a_least_score_ends_the_spreading(searcher):
    wanted = SearchSettings(k=4, min_score=0.9, spread=Spread("case_id"))
    result = searcher.search(NORTH, wanted)
    assert degrees_of(result) == [1, 20]
    assert result.notes == ("2 of 4 hits: no other scores 0.9 or more",)


@settings(max_examples=25)
@given(
    values=st.lists(st.sampled_from(["p", "q", "r", None]), min_size=1, max_size=40),
    most=st.integers(1, 4),
    k=st.integers(1, 12),
)
def test_a_spread_search_equals_a_walk_down_the_whole_ranking(tmp_path_factory, values, most, k):
    step = 80 / len(values)
    slides = [MadeSlide(f"s{n}", fan(step * n), site=value) for n, value in enumerate(values)]
    atlas = make_atlas(str(tmp_path_factory.mktemp("walk") / "atlas"), slides)
    counts: Counter[str | None] = Counter()
    walked = []
    for number, value in enumerate(values):
        if value is None or counts[value] < most:
            counts[value] += 1
            walked.append(f"s{number}")
    found = Searcher(atlas).search(NORTH, SearchSettings(k=k, spread=Spread("site", most)))
    assert [hit.slide_id for hit in found.hits] == walked[:k]


def test_one_case_that_fills_all_the_near_places_does_not_starve_the_others(tmp_path):
    draw = np.random.default_rng(0)
    crowd = fan(*draw.uniform(0, 10, 3000))
    far = [MadeSlide(f"f{n}", fan(60 + n), case_id=f"F{n}") for n in range(12)]
    atlas = make_atlas(str(tmp_path / "atlas"), [MadeSlide("crowd", crowd, case_id="A"), *far])
    (model_id,) = atlas.models
    refresh_index(atlas, model_id, least_rows=1)
    found = Searcher(atlas).search(NORTH, SearchSettings(k=8, spread=Spread("case_id", 2)))
    assert found.path == "index"
    assert [hit.slide_id for hit in found.hits] == ["crowd"] * 2 + [f"f{n}" for n in range(6)]


@pytest.mark.parametrize("text", ["", "site", "site=", "=2", "site=0", "site=-1", "site=1.5"])
def test_a_spread_that_is_none_is_refused(text):
    with pytest.raises(SettingError, match="spread"):
        Spread.parse(text)


def test_a_column_that_is_not_there_is_named_with_those_that_are(searcher):
    with pytest.raises(SettingError, match="'sites'") as caught:
        searcher.search(NORTH, SearchSettings(spread=Spread("sites")))
    assert "slide_id, case_id, site, scanner, batch" in caught.value.remedy


# what is left out, slides that are found
@pytest.mark.parametrize(
    ("exclude", "number", "slides"),
    [
        ("group:site", 0, "c d"),
        ("group:batch", 6, "a1 a2 d"),
        ("group:case_id", 0, "b c d"),
        ("group:slide_id", 0, "a2 b c d"),
    ],
)
def test_the_querys_own_group_is_left_out_and_what_is_of_no_group_stays(
    searcher, exclude, number, slides
):
    result = searcher.search(TileQuery(tile_id(number)), SearchSettings(k=99, exclude=exclude))
    assert {hit.slide_id for hit in result.hits} == set(slides.split())


def test_where_the_group_is_unknown_the_slide_is_left_out_and_that_is_said(searcher):
    result = searcher.search(TileQuery(tile_id(9)), SearchSettings(k=9, exclude="group:batch"))
    assert {hit.slide_id for hit in result.hits} == {"a1", "a2", "b", "c"}
    assert result.notes == ("the batch of d is unknown: only the slide itself was excluded",)


@pytest.mark.parametrize("exclude", ["group:", "group:sites", "groups:site", "site"])
def test_a_group_that_is_none_is_refused(searcher, exclude):
    with pytest.raises(SettingError, match="exclude"):
        searcher.search(TileQuery(tile_id(0)), SearchSettings(exclude=exclude))


@pytest.mark.parametrize("least", [1.01, -2, float("nan")])
def test_a_least_score_that_is_no_cosine_is_refused(least):
    with pytest.raises(SettingError, match="min_score"):
        SearchSettings(min_score=least)


def test_the_answer_is_json(searcher):
    result = searcher.search(NORTH, SearchSettings(k=2, spread=Spread("case_id")))
    answer = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert (answer["no_good_match"], answer["threshold"], answer["site_bias"]) == (None, None, [])
