from __future__ import annotations

import numpy as np
import pytest

from microtome.atlas.index_building import refresh_index
from microtome.search.filters import Exclusion
from microtome.search.finder import Finder, Wanted
from microtome.search.region_near import nearest_of_each
from support.clustered_atlas import Clusters, add_tiles, make_atlas

DIM, ROWS = 32, 1500
CLUSTERS = Clusters(DIM, clusters=20)
ASKED = CLUSTERS.drawn(6, seed=9)


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    made = make_atlas(str(tmp_path_factory.mktemp("near") / "atlas"), DIM)
    add_tiles(made, CLUSTERS.drawn(ROWS))
    return made


def near(atlas, **wanted):
    (model_id,) = atlas.models
    finder = Finder(atlas, model_id)
    return nearest_of_each(finder, finder.view(), model_id, ASKED, Wanted(**wanted))


@pytest.mark.parametrize(
    "limits", [{}, {"where": "half"}, {"exclusion": Exclusion("slide_id", "slide-000001")}]
)
def test_read_once_they_are_those_found_one_by_one(atlas, limits):
    (model_id,) = atlas.models
    finder = Finder(atlas, model_id)
    wanted = Wanted(k=12, **limits)
    one_by_one = finder.find(finder.view(), [vector[None] for vector in ASKED], wanted)
    together = near(atlas, k=12, **limits)
    assert (together.row_ids == [one.row_ids for one in one_by_one]).all()
    assert together.scores == pytest.approx(np.array([one.scores for one in one_by_one]), abs=1e-5)
    assert together.counted.seen == one_by_one[0].seen
    assert together.counted.scored == one_by_one[0].scored


def test_where_there_are_fewer_the_rest_is_marked(atlas):
    found = near(atlas, k=5, where="x < 3")
    assert (found.row_ids[:, :3] >= 0).all()
    assert (found.row_ids[:, 3:] == -1).all()
    assert (near(atlas, k=5, where="x < 0").row_ids == -1).all()


def test_through_an_index_the_nearest_are_the_same(tmp_path):
    made = make_atlas(str(tmp_path / "atlas"), DIM)
    add_tiles(made, CLUSTERS.drawn(ROWS))
    exact = near(made, k=3, exact=True)
    refresh_index(made, *made.models, least_rows=1)
    through = near(made, k=3)
    assert (through.row_ids[:, 0] == exact.row_ids[:, 0]).all()
    assert through.scores[:, 0] == pytest.approx(exact.scores[:, 0], abs=1e-5)
