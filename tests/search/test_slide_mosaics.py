"""Slides found by mosaics that are stored, and by those made while a search waits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from microtome.atlas import stored_mosaics
from microtome.atlas.mosaic_building import refresh_all_mosaics, refresh_mosaics
from microtome.atlas.mosaic_files import FOLDER, drop_mosaics
from microtome.atlas.schema import vector_column
from microtome.atlas.stored_mosaics import open_mosaics
from microtome.atlas.writer import open_writer
from microtome.search import slide_bank, slide_methods
from microtome.search.query import SlideQuery
from microtome.search.slide_searcher import SlideSearcher
from microtome.search.spread import Spread
from support.coloured_atlas import MeanColour, add_slide, make_atlas
from support.many_slides import Kinds, make_slides, slide_name
from support.quilts import METHODS, QUILTS, model_of, names, quilt, scores, search


@pytest.fixture
def own_atlas(tmp_path):
    """One that a test may change."""
    return make_atlas(tmp_path, MeanColour(), QUILTS)


@pytest.mark.parametrize("method", METHODS)
def test_stored_mosaics_answer_as_those_made_now(own_atlas, method):
    made = search(SlideSearcher(own_atlas), SlideQuery("mix"), method=method)
    refresh_mosaics(own_atlas, model_of(own_atlas), least_tiles=1)
    stored = search(SlideSearcher(own_atlas), SlideQuery("mix"), method=method)
    assert names(stored) == names(made)
    assert scores(stored) == pytest.approx(scores(made), abs=1e-3)


def test_a_slide_that_came_later_is_found_and_one_that_left_is_not(own_atlas, tmp_path):
    refresh_mosaics(own_atlas, model_of(own_atlas), least_tiles=1)
    searcher = SlideSearcher(own_atlas)
    assert "late" not in names(searcher.search(SlideQuery("mix")))
    late = quilt("late", "ppuu")
    add_slide(own_atlas, MeanColour(), late, late.write(tmp_path))
    with open_writer(own_atlas.uri, "test") as writer:
        for table in ("tiles", "slides"):
            writer.delete(table, "slide_id = 'same'")
    assert set(names(search(searcher, SlideQuery("mix"), k=3))) == {"mix", "late", "large"}
    assert "same" not in names(searcher.search(SlideQuery("mix")))


def test_a_slide_whose_content_changed_is_compared_as_it_now_is(own_atlas, tmp_path):
    refresh_mosaics(own_atlas, model_of(own_atlas), least_tiles=1)
    with open_writer(own_atlas.uri, "test") as writer:
        for table in ("tiles", "slides"):
            writer.delete(table, "slide_id = 'same'")
    changed = quilt("same", "tttt")
    add_slide(own_atlas, MeanColour(), changed, changed.write(tmp_path))
    near = scores(SlideSearcher(own_atlas).search(SlideQuery("tans")))
    assert near["same"] > 0.99


@pytest.mark.parametrize("late", [False, True], ids=["known", "reopened"])
def test_a_slide_whose_vectors_are_gone_is_not_found(own_atlas, late):
    model_id = model_of(own_atlas)
    refresh_mosaics(own_atlas, model_id, least_tiles=1)
    searcher = SlideSearcher(own_atlas)
    assert "same" in names(searcher.search(SlideQuery("mix")))
    with open_writer(own_atlas.uri, "test") as writer:
        writer.update("tiles", {vector_column(model_id): "NULL"}, "slide_id = 'same'")
    result = (SlideSearcher(own_atlas) if late else searcher).search(SlideQuery("mix"))
    assert "same" not in names(result)
    assert result.coverage == pytest.approx(5 / 6)
    assert any("1 of 6 slides have no vector" in note for note in result.notes)


def test_slides_beyond_those_made_now_are_told(own_atlas, monkeypatch):
    monkeypatch.setattr(slide_bank, "MOST_MADE", 2)
    told = []
    result = SlideSearcher(own_atlas, tell=told.append).search(SlideQuery("mix"))
    assert len(result.hits) == 3, "two, and what was asked with"
    assert result.coverage == pytest.approx(3 / 6)
    assert any("3 of 6 slides have no mosaic yet" in note for note in result.notes)
    assert len(told) == 2
    refresh_mosaics(own_atlas, model_of(own_atlas), least_tiles=1)
    assert SlideSearcher(own_atlas).search(SlideQuery("mix")).coverage == 1.0


@pytest.mark.parametrize("level", ["slide", "case"])
def test_what_is_asked_with_is_searched_however_many_others_are_not(own_atlas, monkeypatch, level):
    monkeypatch.setattr(slide_bank, "MOST_MADE", 1)
    searcher = SlideSearcher(own_atlas)
    result = search(searcher, SlideQuery("tans"), level=level)
    assert names(result)[0] == {"slide": "tans", "case": "case 1"}[level]
    assert result.coverage == pytest.approx(2 / 6)
    elsewhere = search(searcher, SlideQuery("tans"), where="organ = 'liver'")
    assert len(elsewhere.hits) == 1, "it doesn't pass"


def test_many_slides_of_few_tiles_are_all_searched_after_maintenance(tmp_path):
    kinds = Kinds(dim=8, kinds=4, tissues=10, mixed=3)
    atlas = make_slides(str(tmp_path / "atlas"), kinds, slide_bank.MOST_MADE + 1, tiles=2)
    before = SlideSearcher(atlas).search(SlideQuery(slide_name(7)))
    assert any("1 of 301 slides have no mosaic yet" in note for note in before.notes)
    with open_writer(atlas.uri, "test") as writer:
        assert refresh_all_mosaics(writer)
    after = SlideSearcher(atlas).search(SlideQuery(slide_name(7)))
    assert (after.coverage, after.notes) == (1.0, ())


@pytest.mark.parametrize("name", ["vectors.npy", "row_ids.npy", "mosaics.json"])
def test_damaged_mosaics_are_not_used_and_that_is_said(own_atlas, name):
    model_id = model_of(own_atlas)
    refresh_mosaics(own_atlas, model_id, least_tiles=1)
    (path,) = (Path(own_atlas.uri) / FOLDER / model_id).glob(f"*/{name}")
    data = bytearray(path.read_bytes())
    data[-3] ^= 0xFF
    path.write_bytes(data)
    result = search(SlideSearcher(own_atlas), SlideQuery("mix"), k=2)
    assert names(result) == ["mix", "same"]
    assert any(f"its {name} is damaged" in note for note in result.notes)


def test_mosaics_that_go_while_they_are_opened_are_not_used(own_atlas, monkeypatch):
    refresh_mosaics(own_atlas, model_of(own_atlas), least_tiles=1)
    meanwhile(monkeypatch, lambda: drop_mosaics(own_atlas.uri, model_of(own_atlas)))
    result = search(SlideSearcher(own_atlas), SlideQuery("mix"), k=2)
    assert names(result) == ["mix", "same"]
    assert any("its files are gone" in note for note in result.notes)


def test_mosaics_that_are_replaced_while_they_are_opened_are_opened_again(own_atlas, monkeypatch):
    model_id = model_of(own_atlas)
    refresh_mosaics(own_atlas, model_id, least_tiles=1)
    with open_writer(own_atlas.uri, "test") as writer:
        for table in ("tiles", "slides"):
            writer.delete(table, "slide_id = 'same'")
    meanwhile(monkeypatch, lambda: refresh_mosaics(own_atlas, model_id, least_tiles=1))
    assert open_mosaics(own_atlas.uri, model_id).card.number == 2


def meanwhile(monkeypatch, change):
    """Have something happen once the first part of stored mosaics has been read."""
    load, todo = stored_mosaics._load, [change]

    def loaded(path):
        if todo:
            todo.pop()()
        return load(path)

    monkeypatch.setattr(stored_mosaics, "_load", loaded)


def test_an_atlas_as_it_once_was_is_searched_as_it_was(own_atlas):
    pinned = replace(
        own_atlas, pinned={t: own_atlas.dataset(t).version for t in ("tiles", "slides")}
    )
    with open_writer(own_atlas.uri, "test") as writer:
        for table in ("tiles", "slides"):
            writer.delete(table, "slide_id = 'same'")
    refresh_mosaics(own_atlas, model_of(own_atlas), least_tiles=1)
    assert names(search(SlideSearcher(pinned), SlideQuery("mix"), k=2)) == ["mix", "same"]


@pytest.mark.parametrize("method", ["mosaic", "mean"])
@pytest.mark.parametrize("level", ["slide", "case"])
def test_candidates_that_are_looked_up_are_the_nearest_of_many(many, monkeypatch, method, level):
    few_candidates(monkeypatch, vector=60, mean=200)
    searcher, shares = SlideSearcher(many), []
    for number in range(0, 600, 60):
        asked = {"method": method, "level": level, "k": 5}
        quick = search(searcher, SlideQuery(slide_name(number)), **asked)
        exact = search(searcher, SlideQuery(slide_name(number)), exact=True, **asked)
        assert (quick.path, exact.path) == ("index", "exact")
        assert names(quick)[0] == names(exact)[0]
        assert [len(hit.slides) for hit in quick.hits] == [2 if level == "case" else 1] * 5
        shares.append(len(set(names(quick)) & set(names(exact))) / 5)
    assert np.mean(shares) >= 0.9


@pytest.mark.parametrize(
    ("method", "where"), [("mosaic", "x < 2"), ("mosaic", "x < 1"), ("mean", "x < 5")]
)
def test_candidates_are_as_near_where_a_filter_takes_tiles_out_of_every_slide(
    many, monkeypatch, method, where
):
    few_candidates(monkeypatch, vector=20, mean=100)
    searcher, shares = SlideSearcher(many), []
    for number in range(0, 600, 30):
        asked = {"method": method, "where": where, "k": 5, "exclude": "slide"}
        quick = search(searcher, SlideQuery(slide_name(number)), **asked)
        exact = search(searcher, SlideQuery(slide_name(number)), exact=True, **asked)
        assert quick.path == "index"
        shares.append(len(set(names(quick)) & set(names(exact))) / 5)
    assert np.mean(shares) >= 0.9


@pytest.mark.parametrize(("method", "k"), [("mosaic", 50), ("mean", 150)])
def test_where_candidates_share_their_cases_further_ones_are_looked_up(
    many, monkeypatch, method, k
):
    """Of cases of two slides, so many candidates are not of so many cases."""
    few_candidates(monkeypatch, vector=60, mean=200)
    asked = {"method": method, "k": k, "spread": Spread("case_id")}
    quick = search(SlideSearcher(many), SlideQuery(slide_name(60)), **asked)
    exact = search(SlideSearcher(many), SlideQuery(slide_name(60)), exact=True, **asked)
    assert (quick.path, len({hit.case_id for hit in quick.hits})) == ("index", k)
    assert names(quick)[:5] == names(exact)[:5]
    values = [hit.score for hit in quick.hits]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("spread", [None, Spread("case_id")], ids=["all", "spread"])
@pytest.mark.parametrize(("method", "least"), [("mosaic", 0.45), ("mean", 0.3)])
def test_candidates_that_score_too_little_end_no_search_before_it_finds_the_others(
    many, monkeypatch, method, least, spread
):
    """Candidates are no strict ranking: some score too little while good ones are missing."""
    few_candidates(monkeypatch, vector=60, mean=60)
    asked = {"method": method, "k": 400, "min_score": least, "spread": spread}
    quick = search(SlideSearcher(many), SlideQuery(slide_name(60)), **asked)
    exact = search(SlideSearcher(many), SlideQuery(slide_name(60)), exact=True, **asked)
    assert quick.path == "index"
    assert 60 < len(exact.hits) < 200
    assert len(quick.hits) >= 0.97 * len(exact.hits)


@pytest.mark.parametrize("spread", [None, Spread("case_id")], ids=["all", "spread"])
@pytest.mark.parametrize("method", ["mosaic", "mean"])
def test_the_more_hits_are_wanted_the_more_candidates_are_compared(
    many, monkeypatch, method, spread
):
    few_candidates(monkeypatch, vector=60, mean=60, per_hit=slide_methods.CANDIDATES_PER_HIT)
    searcher, shares = SlideSearcher(many), []
    for number in range(0, 600, 60):
        asked = {"method": method, "k": 40, "spread": spread}
        quick = search(searcher, SlideQuery(slide_name(number)), **asked)
        exact = search(searcher, SlideQuery(slide_name(number)), exact=True, **asked)
        assert quick.path == "index"
        shares.append(len(set(names(quick)) & set(names(exact))) / 40)
    assert np.mean(shares) >= 0.95


@pytest.mark.parametrize(
    ("scanned", "where", "path"),
    [
        (600, None, "exact"),
        (599, None, "index"),
        (600, "x < 5", "index"),  # of each slide a part: its mean must be made
    ],
)
def test_means_are_all_compared_as_long_as_that_is_quick(many, monkeypatch, scanned, where, path):
    few_candidates(monkeypatch, vector=60, mean=60)
    monkeypatch.setattr(slide_methods, "SCANNED", {"vector": 0, "mean": scanned})
    asked = {"method": "mean", "where": where}
    assert search(SlideSearcher(many), SlideQuery(slide_name(7)), **asked).path == path


def test_more_hits_than_candidates_are_found_all_the_same(many, monkeypatch):
    few_candidates(monkeypatch, vector=20, mean=20)
    assert len(search(SlideSearcher(many), SlideQuery(slide_name(7)), k=60).hits) == 60


def test_a_filter_that_leaves_few_is_answered_by_comparing_them_all(many, monkeypatch):
    few_candidates(monkeypatch, vector=60, mean=200)
    asked = {"where": f"slide_id < '{slide_name(50)}'", "k": 60}
    result = search(SlideSearcher(many), SlideQuery(slide_name(7)), **asked)
    assert result.path == "exact"
    assert sorted(names(result)) == [slide_name(number) for number in range(50)]


def few_candidates(monkeypatch, vector, mean, per_hit=0):
    """Have so many compared by vocabulary, however many hits are wanted and slides there are."""
    monkeypatch.setattr(slide_methods, "CANDIDATES", {"vector": vector, "mean": mean})
    monkeypatch.setattr(slide_methods, "CANDIDATES_PER_HIT", per_hit)
    monkeypatch.setattr(slide_methods, "SCANNED", {"vector": 0, "mean": 0})


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """600 slides of 20 tiles, of 20 kinds, with vocabularies."""
    kinds = Kinds(dim=32, kinds=20, tissues=100, mixed=6)
    atlas = make_slides(str(tmp_path_factory.mktemp("many") / "atlas"), kinds, 600, tiles=20)
    refresh_mosaics(atlas, model_of(atlas), least_tiles=1, least_slides=10)
    return atlas
