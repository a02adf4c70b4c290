from __future__ import annotations

import numpy as np
import pytest
import shapely

from microtome.search import region_check
from microtome.search.region_check import laid
from microtome.search.region_placement import Placement
from support.laid_tiles import TILE_PX, tiles_of

UPRIGHT = Placement(0.0, 0.0, angle_deg=0.0, flipped=False)


def cells_of(laid_tiles, stride_px=TILE_PX):
    """Column and row of each tile on which the query was laid."""
    return np.rint((laid_tiles.middles - TILE_PX / 2) / stride_px).astype(int)


def square(columns: int, rows: int):
    """A region that lies on whole tiles, from the slide's corner on."""
    return shapely.box(0, 0, columns * TILE_PX, rows * TILE_PX)


@pytest.mark.parametrize(("columns", "rows"), [(9, 9), (10, 9), (5, 4), (9, 3), (3, 3)])
def test_the_tiles_of_a_sample_touch_all_rows_and_columns(columns, rows):
    cells = cells_of(laid(square(columns, rows), UPRIGHT, tiles_of(columns, rows)))
    assert len(cells) == region_check.TILES
    assert len(set(cells[:, 0])) == min(columns, region_check.TILES)
    assert len(set(cells[:, 1])) == rows


@pytest.mark.parametrize("side", [9, 12, 40, 300])
def test_the_tiles_of_a_sample_lie_everywhere(side):
    cells = cells_of(laid(square(side, side), UPRIGHT, tiles_of(side, side)))
    assert len({tuple(part) for part in (cells * 2 // side).tolist()}) == 4  # each quarter
    assert np.linalg.matrix_rank(cells - cells[0]) == 2  # and on no line
    assert len(cells) == region_check.TILES


def test_what_is_cut_of_a_region_does_not_grow_with_it(monkeypatch):
    counted = []
    cut = region_check.shares
    monkeypatch.setattr(
        region_check, "shares", lambda *told: counted.append(len(told[1])) or cut(*told)
    )
    laid(square(200, 200), UPRIGHT, tiles_of(1, 1))
    assert sum(counted) <= region_check.CUT


@pytest.mark.parametrize(
    ("box", "found"),
    [
        ((230, 230, 440, 440), 0),  # between four tiles
        ((224, 224, 440, 440), 0),  # and touching one
        ((200, 200, 260, 260), 1),  # a corner of it
        ((0, 0, 672, 672), 4),
    ],
)
def test_of_a_grid_with_gaps_only_tiles_that_share_ground_count(box, found):
    one = laid(shapely.box(*box), UPRIGHT, tiles_of(5, 5, stride_px=2 * TILE_PX))
    assert len(one.tile) == found
    assert (one.share > 0).all()


def test_a_thin_region_across_many_tiles_still_lies_on_some():
    far = 100.0 * TILE_PX
    line = shapely.Polygon([(0, 0), (far, far), (far, far + 2)])
    assert len(laid(line, UPRIGHT, tiles_of(100, 100)).tile) >= 1
