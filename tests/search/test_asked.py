"""What a region's slide is: the one that was indexed, or none."""

from __future__ import annotations

import shutil

import pytest

from microtome.errors import SlideChanged
from microtome.search.query import RegionQuery
from microtome.search.region_searcher import RegionSearcher
from microtome.search.searcher import Searcher
from microtome.search.slide_searcher import SlideSearcher
from support.coloured_atlas import GRID, MeanColour, make_atlas

SIDE = GRID.tile_px


@pytest.mark.parametrize("searcher", [Searcher, RegionSearcher, SlideSearcher])
def test_a_slide_that_lies_where_another_was_indexed_is_not_asked_with(tmp_path, searcher):
    search = searcher(make_atlas(tmp_path, MeanColour()), MeanColour()).search
    query = RegionQuery("a", 0, 0, SIDE, SIDE)
    assert search(query).hits

    shutil.copy(tmp_path / "c.svs", tmp_path / "a.svs")

    with pytest.raises(SlideChanged, match="the file of a has changed"):
        search(query)


def test_a_copy_of_an_indexed_slide_is_that_slide(tmp_path):
    searcher = Searcher(make_atlas(tmp_path, MeanColour()), MeanColour())
    copy = str(shutil.copy(tmp_path / "a.svs", tmp_path / "copy.svs"))
    best = searcher.search(RegionQuery(copy, 0, 0, SIDE, SIDE)).hits[0]
    assert (best.slide_id, best.x, best.y) == ("a", 0, 0)
