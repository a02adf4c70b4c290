from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microtome.config import GridSettings
from microtome.tiles.grid import TileGrid


def grid(
    width_px: int, height_px: int, mpp: float = 0.5, tile_px: int = 100, stride_px: int = 100
) -> TileGrid:
    return TileGrid(width_px, height_px, mpp, GridSettings(0.5, tile_px, stride_px))


@pytest.mark.parametrize(
    ("slide", "mpp", "tile_px", "stride_px", "size_px", "columns_rows"),
    [
        ((1000, 300), 0.5, 100, 100, 100, (10, 3)),  # a slide of just so many tiles
        ((999, 399), 0.5, 100, 100, 100, (9, 3)),  # a part tile is none
        ((1000, 300), 0.25, 100, 100, 200, (5, 1)),  # twice as fine: tiles of twice the pixels
        ((1000, 300), 0.5, 100, 50, 100, (19, 5)),  # overlapping by half
        ((1000, 300), 0.5, 100, 200, 100, (5, 2)),  # every second one
        ((99, 5000), 0.5, 100, 100, 100, (0, 50)),  # narrower than a tile
        ((100, 100), 0.5, 100, 100, 100, (1, 1)),  # exactly one
        ((0, 0), 0.5, 100, 100, 100, (0, 0)),
        ((1000, 1000), 0.3, 100, 100, 167, (6, 6)),  # 166.67 px; steps of 167 would drift to 835
        ((833, 834), 0.3, 100, 100, 167, (4, 5)),  # one pixel too few, just enough
        ((40, 40), 60.0, 16, 16, 1, (297, 297)),  # far coarser than wanted: a pixel a tile
    ],
)
def test_only_whole_tiles_are_counted(slide, mpp, tile_px, stride_px, size_px, columns_rows):
    tiles = grid(*slide, mpp, tile_px, stride_px)
    assert tiles.size_px == size_px
    assert (tiles.columns, tiles.rows) == columns_rows
    assert len(tiles) == tiles.columns * tiles.rows


def test_corners_run_row_by_row():
    assert grid(250, 210).corners().tolist() == [[0, 0], [100, 0], [0, 100], [100, 100]]


def test_a_grid_is_a_sequence_of_corners():
    tiles = grid(1000, 300, mpp=0.3)
    assert list(tiles) == [tuple(corner) for corner in tiles.corners().tolist()]
    assert tiles[-1] == tuple(tiles.corners()[-1])
    assert tiles[1:3] == list(tiles)[1:3]
    with pytest.raises(IndexError):
        tiles[len(tiles)]


def test_corners_of_a_large_slide_do_not_drift():
    tiles = grid(100_000, 100_000, mpp=0.4988, tile_px=224, stride_px=224)
    last = tiles.columns - 1
    assert tiles[last][0] == round(last * 224 * 0.5 / 0.4988)
    assert tiles.corners().shape == (len(tiles), 2)
    assert len(tiles) > 190_000


SLIDES = st.builds(
    grid,
    width_px=st.integers(0, 3000),
    height_px=st.integers(0, 3000),
    mpp=st.floats(0.1, 2.0),
    tile_px=st.integers(16, 300),
    stride_px=st.integers(16, 300),
)


@given(SLIDES)
def test_no_tile_leaves_the_slide(tiles: TileGrid):
    corners = tiles.corners()
    assert (corners >= 0).all()
    assert (corners[:, 0] + tiles.size_px <= tiles.width_px).all()
    assert (corners[:, 1] + tiles.size_px <= tiles.height_px).all()


@given(SLIDES)
def test_no_further_tile_would_fit(tiles: TileGrid):
    for count, length_px in ((tiles.columns, tiles.width_px), (tiles.rows, tiles.height_px)):
        assert round(count * tiles.step_px) + tiles.size_px > length_px


@given(SLIDES)
def test_neighbours_lie_one_step_apart_to_the_nearest_pixel(tiles: TileGrid):
    xs = np.unique(tiles.corners()[:, 0])
    assert (abs(np.diff(xs) - tiles.step_px) <= 1).all()
    assert (abs(xs - np.arange(len(xs)) * tiles.step_px) <= 0.5).all()


@given(SLIDES)
def test_tiles_without_overlap_leave_no_pixel_out(tiles: TileGrid):
    if tiles.settings.stride_px > tiles.settings.tile_px or not len(tiles):
        return
    xs = np.unique(tiles.corners()[:, 0])
    # Sizes and corners are rounded apart, so a seam of one pixel is the most there can be.
    assert (np.diff(xs) - tiles.size_px <= 1).all()
    assert tiles.width_px - (xs[-1] + tiles.size_px) <= tiles.step_px + 1
