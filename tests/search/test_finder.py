from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.atlas.atlas import Atlas
from microtome.atlas.index_building import refresh_index
from microtome.atlas.index_codes import CodePlan
from microtome.atlas.writer import open_writer
from microtome.search import finder as finder_module
from microtome.search.filters import Exclusion
from microtome.search.finder import Finder, Wanted, path_of
from microtome.search.recall import check_recall
from support.clustered_atlas import Clusters, add_tiles, make_atlas

DIM, ROWS, LATER = 64, 6000, 200
CLUSTERS = Clusters(DIM, clusters=40)
NARROW = CodePlan(40, probes=8)  # a fifth of the lists, so that a filter must widen the search


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    """Rows in an index, some of them deleted since, and some that came after it."""
    made = make_atlas(str(tmp_path_factory.mktemp("finder") / "atlas"), DIM)
    add_tiles(made, CLUSTERS.drawn(ROWS))
    (model_id,) = made.models
    refresh_index(made, model_id, least_rows=1, plan=lambda _: NARROW)
    with open_writer(made.uri, "test") as writer:
        writer.delete("tiles", "slide_id = 'slide-000002'")
    add_tiles(made, CLUSTERS.drawn(LATER, seed=9), first=ROWS)
    return made


@pytest.fixture(scope="module")
def finder(atlas):
    return Finder(atlas, *atlas.models)


@pytest.fixture(scope="module")
def queries():
    return list(CLUSTERS.drawn(40, seed=1)[:, None])


def by_hand(atlas, query, condition) -> dict[int, float]:
    """Every cosine of the rows that pass, by row id."""
    (model_id,) = atlas.models
    table = atlas.tiles.scanner(filter=condition, with_row_id=True).to_table()
    if not len(table):
        return {}
    stored = np.stack(table[f"vector_{model_id}"].to_numpy()).astype(np.float64)
    scores = (stored @ query.T / np.linalg.norm(stored, axis=1)[:, None]).max(axis=1)
    return dict(zip(table["_rowid"].to_pylist(), scores.tolist(), strict=True))


def share_found(atlas, found, query, wanted) -> float:
    truth = by_hand(atlas, query, wanted.condition)
    bar = min(sorted(truth.values(), reverse=True)[: wanted.k], default=0.0)
    assert set(found.row_ids.tolist()) <= truth.keys()
    for row, score in zip(found.row_ids.tolist(), found.scores.tolist(), strict=True):
        assert score == pytest.approx(truth[row], abs=1e-5)
    assert len(found.row_ids) == min(wanted.k, len(truth))
    assert found.scored == len(truth)
    return float(np.mean(found.scores >= bar - 1e-6)) if truth else 1.0


FILTERS = [None, "half", "site = 'site-07'", "slide_id = 'slide-000004'", "x < 12", "x >= 5990"]
CASES = [None, Exclusion("slide_id", "slide-000000"), Exclusion("case_id", "case-000001")]


@pytest.mark.parametrize("where", FILTERS)
@pytest.mark.parametrize("exclusion", CASES)
def test_a_filter_neither_leaks_nor_starves(atlas, finder, queries, where, exclusion):
    wanted = Wanted(10, where, exclusion)
    view = finder.view()
    assert path_of(view, wanted) == "index"
    found = finder.find(view, queries, wanted)
    shares = [
        share_found(atlas, one, query, wanted) for one, query in zip(found, queries, strict=True)
    ]
    assert np.mean(shares) >= 0.9


@settings(max_examples=25)
@given(
    low=st.integers(0, ROWS + LATER),
    width=st.integers(1, 3000),
    k=st.integers(1, 60),
    number=st.integers(0, 39),
)
def test_as_many_are_found_as_pass(atlas, finder, queries, low, width, k, number):
    wanted = Wanted(k, f"x >= {low} AND x < {low + width}")
    (found,) = finder.find(finder.view(), [queries[number]], wanted)
    truth = by_hand(atlas, queries[number], wanted.condition)
    assert len(found.row_ids) == min(k, len(truth))
    assert set(found.row_ids.tolist()) <= truth.keys()
    assert found.seen == found.scored == len(truth)


def test_rows_that_came_after_the_index_are_found(atlas, finder):
    later = CLUSTERS.drawn(LATER, seed=9)
    found = finder.find(finder.view(), list(later[:20, None]), Wanted(1))
    names = [atlas.tiles._take_rows(one.row_ids.tolist())["x"].to_pylist() for one in found]
    assert names == [[ROWS + number] for number in range(20)]


def test_deleted_rows_are_found_no_more(atlas, finder):
    gone = CLUSTERS.drawn(ROWS)[2000:2020, None]
    for found in finder.find(finder.view(), list(gone), Wanted(5)):
        assert found.scores.max() < 0.9999


def test_exact_is_exact(atlas, finder, queries):
    for query in queries[:5]:
        wanted = Wanted(10, exact=True)
        (found,) = finder.find(finder.view(), [query], wanted)
        assert share_found(atlas, found, query, wanted) == 1.0


def test_more_effort_finds_more(atlas, finder, queries):
    def mean_share(effort):
        wanted = Wanted(10, effort=effort)
        found = finder.find(finder.view(), queries, wanted)
        return np.mean(
            [share_found(atlas, one, q, wanted) for one, q in zip(found, queries, strict=True)]
        )

    assert mean_share(0.25) < 0.9
    assert mean_share(10) > 0.99


def test_of_several_vectors_the_best_cosine_counts(atlas, finder, queries):
    together = np.concatenate(queries[:7])
    wanted = Wanted(10, effort=10)
    (found,) = finder.find(finder.view(), [together], wanted)
    assert share_found(atlas, found, together, wanted) == 1.0


def test_together_finds_what_one_by_one_finds(finder, queries):
    view = finder.view()
    together = finder.find(view, queries, Wanted(10))
    for query, found in zip(queries, together, strict=True):
        (alone,) = finder.find(view, [query], Wanted(10))
        assert found.row_ids.tolist() == alone.row_ids.tolist()


def test_equal_tiles_come_by_id(tmp_path):
    atlas = make_atlas(str(tmp_path / "atlas"), DIM)
    twins = np.repeat(CLUSTERS.drawn(1), 50, axis=0)
    add_tiles(atlas, np.concatenate([CLUSTERS.drawn(500, seed=2), twins]))
    refresh_index(atlas, *atlas.models, least_rows=1, plan=lambda _: CodePlan(2, probes=2))
    finder = Finder(atlas, *atlas.models)
    (found,) = finder.find(finder.view(), [twins[:1]], Wanted(5, effort=2))
    names = atlas.tiles._take_rows(found.row_ids.tolist())["tile_id"].to_pylist()
    every = atlas.tiles.to_table(columns=["tile_id"], filter="x >= 500")["tile_id"].to_pylist()
    assert names == sorted(every)[:5]


def test_an_older_version_is_searched_through_the_newer_index(atlas, queries):
    then = dataclasses.replace(atlas, pinned={"tiles": atlas.tiles.version - 1})
    assert then.tiles.count_rows() < atlas.tiles.count_rows()
    finder = Finder(then, *atlas.models)
    view = finder.view()
    assert (path_of(view, Wanted(10)), view.standing.open_rows) == ("index", 0)
    wanted = Wanted(10, effort=10)
    for query in queries[:5]:
        (found,) = finder.find(view, [query], wanted)
        assert share_found(then, found, query, wanted) == 1.0


def test_a_finder_sees_new_tiles_and_a_new_index(tmp_path, monkeypatch):
    monkeypatch.setattr(finder_module, "LOOK_AGAIN_S", 0.0)
    atlas = make_atlas(str(tmp_path / "atlas"), DIM)
    add_tiles(atlas, CLUSTERS.drawn(500))
    finder = Finder(atlas, *atlas.models)
    assert path_of(finder.view(), Wanted(1)) == "exact"
    refresh_index(atlas, *atlas.models, least_rows=1)
    assert path_of(finder.view(), Wanted(1)) == "index"
    add_tiles(atlas, CLUSTERS.drawn(100, seed=5), first=500)
    assert finder.view().standing.open_rows == 100
    refresh_index(atlas, *atlas.models, least_rows=1)
    assert finder.view().standing.open_rows == 0


def test_a_finder_tells_its_version_without_opening_slides_each_time(tmp_path, monkeypatch):
    atlas = make_atlas(str(tmp_path / "atlas"), DIM)
    add_tiles(atlas, CLUSTERS.drawn(50))
    finder, (tiles, slides) = (
        Finder(atlas, *atlas.models),
        (atlas.tiles.version, atlas.slides.version),
    )
    opened, dataset = [], Atlas.dataset
    monkeypatch.setattr(
        Atlas, "dataset", lambda own, table: opened.append(table) or dataset(own, table)
    )
    assert [finder.version() for _ in range(3)] == [(tiles, slides)] * 3
    assert opened.count("slides") == 1
    with open_writer(atlas.uri, "test") as writer:
        writer.delete("slides", "true")
    monkeypatch.setattr(finder_module, "LOOK_AGAIN_S", 0.0)
    assert finder.version() == (tiles, slides + 1)


@pytest.mark.parametrize("k", [1, 10])
def test_measured_recall_is_that_of_the_index(atlas, finder, k):
    (model_id,) = atlas.models
    measured = check_recall(atlas, model_id, 60, k=k)
    assert (measured.path, measured.k, measured.sample) == ("index", k, 60)
    assert 0.8 <= measured.recall <= 1.0


def test_an_exact_search_has_full_recall(tmp_path):
    atlas = make_atlas(str(tmp_path / "atlas"), DIM)
    add_tiles(atlas, np.repeat(CLUSTERS.drawn(40), 3, axis=0))
    measured = check_recall(atlas, *atlas.models, 1000, k=5)
    assert (measured.recall, measured.path, measured.sample) == (1.0, "exact", 120)
