from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microtome.atlas.calibration_files import FOLDER, Grounds, read_stored
from microtome.atlas.forgetting import Subject, forget, purge
from microtome.atlas.index_building import refresh_index
from microtome.atlas.schema import vector_column
from microtome.atlas.writer import open_writer
from microtome.errors import SettingError
from microtome.search import calibration as calibration_module
from microtome.search.calibration import (
    Calibrating,
    Calibration,
    store_calibrations,
)
from microtome.search.query import TileQuery, VectorQuery
from microtome.search.result import SearchSettings
from microtome.search.searcher import Searcher
from support.sited_atlas import MadeSlide, make_atlas, tile_id

DIM = 6


# scores, alpha, the threshold
@pytest.mark.parametrize(
    ("scores", "alpha", "threshold"),
    [
        (range(1, 20), 0.05, 1),  # ⌊0.05 × 20⌋ = 1: the smallest
        (range(1, 19), 0.05, None),  # ⌊0.05 × 19⌋ = 0
        (range(1, 40), 0.05, 2),
        (range(1, 100), 0.29, 29),  # 0.29 × 100 is a little less than 29
        ([5, 5, 5], 0.5, 5),
        ([3, 1, 2], 0.5, 2),
        ([], 0.5, None),
    ],
)
def test_the_threshold_is_the_quantile_with_its_finite_sample_correction(scores, alpha, threshold):
    assert Calibration.of(scores).threshold(alpha) == threshold


# score of the query, its p-value among 1 … 9
@pytest.mark.parametrize(("score", "p_value"), [(0.5, 0.1), (1, 0.2), (5, 0.6), (5.5, 0.6), (9, 1)])
def test_the_p_value_counts_the_query_in(score, p_value):
    assert Calibration.of(range(1, 10)).p_value(score) == pytest.approx(p_value)


FLOATS = st.floats(-1, 1, width=32)


@given(scores=st.lists(FLOATS, max_size=60), score=FLOATS, alpha=st.floats(0.01, 0.99))
def test_a_score_lies_below_the_threshold_where_its_p_value_is_alpha_at_most(scores, score, alpha):
    verdict = Calibration.of(scores).judge(score, alpha)
    if verdict.threshold is None:
        assert verdict.no_good_match is None
    else:
        assert verdict.no_good_match == (verdict.p_value <= alpha + 1e-9)


@given(scores=st.lists(FLOATS, min_size=2, max_size=60), alpha=st.floats(0.01, 0.99))
def test_of_exchangeable_scores_no_more_than_alpha_are_called_no_match(scores, alpha):
    """The theorem itself: each score in turn is the query's, the others calibrate."""
    called = sum(
        bool(Calibration.of(scores[:n] + scores[n + 1 :]).judge(score, alpha).no_good_match)
        for n, score in enumerate(scores)
    )
    assert called <= alpha * len(scores) + 1e-6


def tissue(draw: np.random.Generator, tiles: int, own: float = 0.3) -> np.ndarray:
    """A case's tiles: around a centre of its own, on the same side of the sphere in all cases."""
    centre = np.array([4, 0, 0, 0, 0, 0]) + draw.normal(size=DIM)
    vectors = centre + own * draw.normal(size=(tiles, DIM))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


CASES, TILES = 240, 4


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    draw = np.random.default_rng(3)
    slides = [
        MadeSlide(f"s{n}", tissue(draw, TILES), case_id=f"c{n}", site="north" if n % 2 else "south")
        for n in range(CASES)
    ]
    return make_atlas(str(tmp_path_factory.mktemp("calibration") / "atlas"), slides)


def settings_of(alpha: float = 0.1, tiles: int = 199, **further) -> SearchSettings:
    return SearchSettings(k=1, calibrating=Calibrating(alpha, tiles), **further)


def test_new_cases_of_the_same_kind_are_rarely_said_to_have_no_match(atlas):
    draw = np.random.default_rng(4)
    queries = [VectorQuery(tissue(draw, 1)) for _ in range(300)]
    results = Searcher(atlas).search_many(queries, settings_of(0.1))
    called = sum(bool(result.no_good_match) for result in results)
    # √(0.1 × 0.9 × (1/300 + 1/200)) = 0.027 is the scatter of both draws: 3.5 of it
    assert 0 < called <= 300 * (0.1 + 3.5 * 0.027)


def test_tissue_that_the_atlas_does_not_hold_has_no_good_match(atlas):
    draw = np.random.default_rng(5)
    foreign = -tissue(draw, 20)
    results = Searcher(atlas).search_many(
        [VectorQuery(one[None]) for one in foreign], settings_of()
    )
    assert all(result.no_good_match for result in results)
    assert all(result.verdict.p_value == 1 / 200 for result in results)
    assert all(result.hits for result in results)  # shown all the same
    assert all(result.notes[0].startswith("no good match: the best scores ") for result in results)


def test_a_tile_of_the_atlas_is_judged_only_where_it_is_left_out(atlas):
    query = TileQuery(tile_id(7))
    free = Searcher(atlas).search(query, settings_of())
    assert free.verdict is None
    assert free.notes == (
        "whether the best match is a good one was not judged: it may be the query's own, unless "
        "its slide or case is excluded",
    )
    apart = Searcher(atlas).search(query, settings_of(exclude="case"))
    assert apart.no_good_match is False
    assert apart.verdict.tiles == 199


def test_the_calibration_leaves_out_what_the_search_leaves_out(atlas):
    """Without their case, tiles find less than without their slide or site, as these show."""
    query = TileQuery(tile_id(7))
    thresholds = {
        exclude: Searcher(atlas).search(query, settings_of(exclude=exclude)).threshold
        for exclude in ("slide", "case", "group:site")
    }
    assert thresholds["slide"] == pytest.approx(thresholds["case"])  # one slide is one case here
    assert thresholds["group:site"] < thresholds["case"]


def test_a_filter_calibrates_among_what_passes(atlas):
    searcher, query = Searcher(atlas), VectorQuery(tissue(np.random.default_rng(6), 1))
    everything = searcher.search(query, settings_of())
    some = searcher.search(query, settings_of(where="slide_id < 's12'"))
    assert some.verdict.tiles < everything.verdict.tiles
    assert some.threshold < everything.threshold


def test_too_few_tiles_for_an_alpha_are_said(atlas):
    result = Searcher(atlas).search(VectorQuery(np.ones((1, DIM))), settings_of(0.01, tiles=50))
    assert result.no_good_match is None
    assert "50 tiles are too few" in result.notes[0]


def test_an_atlas_of_one_case_can_not_be_calibrated(tmp_path):
    slides = [MadeSlide(name, np.eye(DIM)[:3], case_id="only") for name in "ab"]
    result = Searcher(make_atlas(str(tmp_path / "atlas"), slides)).search(
        VectorQuery(np.ones((1, DIM))), settings_of()
    )
    assert result.verdict is None
    assert result.notes == (
        "whether the best match is a good one was not judged: no tile has others to be compared "
        "with",
    )


def test_a_large_atlas_is_not_sampled_while_a_search_waits(atlas, monkeypatch):
    monkeypatch.setattr(calibration_module, "MOST_ROWS", 500)
    result = Searcher(atlas).search(VectorQuery(np.ones((1, DIM))), settings_of())
    assert result.verdict is None
    assert "960 tiles is too large" in result.notes[0]
    assert "microtome maintain" in result.notes[0]


def test_an_atlas_is_sampled_once_for_each_version(atlas, monkeypatch):
    made = []

    def counting(finder, by, tiles, where=None, calibrate=calibration_module.calibrate):
        made.append(by)
        return calibrate(finder, by, tiles, where)

    monkeypatch.setattr(calibration_module, "calibrate", counting)
    searcher = Searcher(atlas)
    for _ in range(3):
        searcher.search(VectorQuery(np.ones((1, DIM))), settings_of())
        searcher.search(TileQuery(tile_id(0)), settings_of(exclude="slide"))
    assert made == ["case_id", "slide_id"]


def test_the_index_and_a_scan_calibrate_alike(atlas, tmp_path):
    draw = np.random.default_rng(8)
    slides = [MadeSlide(f"s{n}", tissue(draw, 8), case_id=f"c{n}") for n in range(100)]
    made = make_atlas(str(tmp_path / "atlas"), slides)
    query = VectorQuery(tissue(draw, 1))
    scanned = Searcher(made).search(query, settings_of(tiles=99))
    refresh_index(made, *made.models, least_rows=1)
    indexed = Searcher(made).search(query, settings_of(tiles=99))
    assert (scanned.path, indexed.path) == ("exact", "index")
    assert indexed.threshold == pytest.approx(scanned.threshold, abs=1e-3)


@pytest.fixture
def small(tmp_path):
    draw = np.random.default_rng(9)
    slides = [MadeSlide(f"s{n}", tissue(draw, 2), case_id=f"c{n}") for n in range(30)]
    return make_atlas(str(tmp_path / "atlas"), slides)


def store(atlas) -> str:
    with open_writer(atlas.uri, "test") as writer:
        return store_calibrations(writer)


def test_what_is_stored_is_used_and_not_made_again_for_the_same_version(small):
    assert store(small).startswith("the usual scores of made")
    assert store(small) == ""
    query = VectorQuery(np.ones((1, DIM)))
    result = Searcher(small).search(query, settings_of(tiles=0))
    assert result.verdict.tiles == 60


def test_without_anything_stored_and_no_tiles_to_draw_nothing_is_judged(small):
    result = Searcher(small).search(VectorQuery(np.ones((1, DIM))), settings_of(tiles=0))
    assert result.verdict is None
    assert "no scores are stored" in result.notes[0]


def judged(atlas) -> bool:
    """Whether what is stored is used, since nothing else may be."""
    query = VectorQuery(np.ones((1, DIM)))
    return Searcher(atlas).search(query, settings_of(tiles=0)).verdict is not None


@pytest.mark.parametrize(
    ("change", "used"),
    [
        (("case_id", "concat('x', case_id)", "slide_id < 's10'"), True),  # of 2 slides of 30
        (("case_id", "concat('x', case_id)", "slide_id < 's15'"), False),  # of 7
        (("case_id", "NULL", "true"), False),
        (("site", "'north'", "true"), True),
        (("VECTOR", "NULL", "slide_id < 's10'"), True),
        (("VECTOR", "NULL", "slide_id < 's15'"), False),
    ],
)
def test_what_is_stored_is_used_while_cases_and_vectors_are_much_the_same(small, change, used):
    store(small)
    name, value, where = change
    with open_writer(small.uri, "test") as writer:
        if name == "VECTOR":
            writer.update("tiles", {vector_column(*small.models): value}, where)
        else:
            for table in ("tiles", "slides"):
                writer.update(table, {name: value}, where)
    assert judged(small) is used


def test_what_was_stored_later_says_nothing_of_an_atlas_as_it_once_was(small):
    before = replace(small, pinned={t: small.dataset(t).version for t in ("tiles", "slides")})
    with open_writer(small.uri, "test") as writer:
        writer.update("tiles", {"site": "'north'"}, "true")
    store(small)
    assert judged(small)
    assert not judged(before)


def test_maintenance_helps_a_search_that_found_the_atlas_too_large(small, monkeypatch):
    monkeypatch.setattr(calibration_module, "MOST_ROWS", 5)
    searcher, query = Searcher(small), VectorQuery(np.ones((1, DIM)))
    assert "too large" in searcher.search(query, settings_of()).notes[0]
    store(small)
    assert searcher.search(query, settings_of()).verdict.tiles == 60


# slides that were, of 100, slides that came, whether that is much the same
@pytest.mark.parametrize(
    ("left", "came", "alike"), [(95, 0, True), (70, 0, False), (100, 5, True), (100, 40, False)]
)
@pytest.mark.parametrize("times", [1, 100])  # 100 slides are told apart, 10,000 by a sketch
def test_an_atlas_is_the_same_while_few_slides_change(left, came, alike, times):
    slides = [(f"s{n}", None) for n in range(100 * times)]
    new = [(f"n{n}", "c") for n in range(came * times)]
    were = Grounds.of(1000, slides)
    assert were.alike(Grounds.of(1000, slides[: left * times] + new)) is alike
    assert not were.alike(Grounds.of(1200, slides))


def test_of_several_parts_it_is_never_said_that_they_have_a_good_match(atlas):
    draw = np.random.default_rng(11)
    alike, foreign = tissue(draw, 4), -tissue(draw, 4)
    mixed = np.concatenate([foreign[:3], alike[:1]])
    for vectors, no_match in ((alike, None), (mixed, None), (foreign, True)):
        result = Searcher(atlas).search(VectorQuery(vectors), settings_of())
        assert result.no_good_match is no_match
        assert result.remarks == ()
        told = "no good match" if no_match else "best of the query's 4 parts"
        assert told in result.notes[0]


@pytest.mark.parametrize(
    "text", ["", "no", "[]", "{}", '{"format": 9}', '{"format": 1, "scores": {"case_id": ["x"]}}']
)
def test_a_stored_calibration_that_is_damaged_is_as_none(small, text):
    (model_id,) = small.models
    store(small)
    (file,) = (Path(small.uri) / FOLDER).iterdir()
    file.write_text(text)
    assert read_stored(small.uri, model_id) is None


def test_forgetting_removes_what_is_stored(small):
    (model_id,) = small.models
    store(small)
    with open_writer(small.uri, "test") as writer:
        forget(writer, Subject(slide_id="s0"))
        purge(writer)
    assert read_stored(small.uri, model_id) is None


@pytest.mark.parametrize("wrong", [{"alpha": 0}, {"alpha": 1.0}, {"alpha": True}, {"tiles": -1}])
def test_settings_refuse_to_be_wrong(wrong):
    with pytest.raises(SettingError, match=next(iter(wrong))):
        Calibrating(**wrong)
