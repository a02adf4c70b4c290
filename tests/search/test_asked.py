"""What a region's slide is: the one that was indexed, or none."""

from __future__ import annotations

import shutil

import pytest

from microtome.atlas.atlas import Atlas
from microtome.errors import SlideChanged
from microtome.search.asked import opened
from microtome.search.query import RegionQuery
from microtome.search.region_searcher import RegionSearcher
from microtome.search.searcher import Searcher
from microtome.search.slide_searcher import SlideSearcher
from microtome_jobs.made.pyramid import PyramidSpec, write_pyramid
from support.coloured_atlas import GRID, MeanColour, Quilt, add_slide, make_atlas

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


@pytest.mark.parametrize("assumed", [None, 1.0])
def test_a_file_has_the_mpp_that_the_atlas_was_told(tmp_path, assumed):
    quilt = Quilt("e", (("pink", "tan"), ("tan", "purple")))
    path = tmp_path / "e.svs"
    write_pyramid(path, quilt.pixels(), PyramidSpec(mpp=None, levels=2, quality=95))
    encoder = MeanColour()
    atlas = make_atlas(tmp_path, encoder)
    add_slide(atlas, encoder, quilt, path, mpp=0.5)
    with opened(str(path), Atlas.open(atlas.uri), assumed) as (reader, row):
        assert reader.slide.mpp == row["mpp"] == 0.5
