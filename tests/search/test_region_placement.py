from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from microtome.search.region_picture import Held, tile_of
from microtome.search.region_placement import Placement, iou, moved, shares, turns

PLACES = st.floats(-1e5, 1e5)
PLACEMENTS = st.builds(Placement, PLACES, PLACES, st.floats(0, 360), st.booleans())


@pytest.mark.parametrize(
    ("angle", "flipped", "right", "down"),  # where the query's right and down point on the slide
    [
        (0, False, (1, 0), (0, 1)),
        (90, False, (0, 1), (-1, 0)),  # clockwise as one sees it: right turns to down
        (180, False, (-1, 0), (0, -1)),
        (0, True, (-1, 0), (0, 1)),  # left to right
        (90, True, (0, -1), (-1, 0)),  # mirrored, then turned
    ],
)
def test_mirrored_first_then_turned_clockwise(angle, flipped, right, down):
    there = Placement(100, 200, angle, flipped).on_slide(np.array([[1.0, 0.0], [0.0, 1.0]]))
    assert there - (100, 200) == pytest.approx(np.array([right, down]), abs=1e-9)


@given(PLACEMENTS, PLACES, PLACES)
def test_there_and_back_is_where_one_was(placement, x, y):
    points = np.array([[x, y]])
    assert placement.in_query(placement.on_slide(points)) == pytest.approx(points, abs=1e-6)


@given(PLACEMENTS)
def test_a_moved_outline_keeps_its_area(placement):
    outline = shapely.Polygon([(-50, -20), (60, -30), (10, 80)])
    assert moved(outline, placement).area == pytest.approx(outline.area, rel=1e-6)


@pytest.mark.parametrize(
    ("side", "x", "share"),  # a square of 100 around 0, squares of `side` around (x, 0)
    [
        (20, 0, 1.0),  # wholly inside
        (20, 50, 0.5),  # half of the tile inside
        (20, 60, 0.0),
        (400, 0, 1.0),  # a tile that holds all of the region
        (400, 200, 0.5),  # half of the region
    ],
)
def test_a_share_is_of_the_smaller_of_tile_and_region(side, x, share):
    outline = shapely.box(-50, -50, 50, 50)
    assert shares(outline, np.array([[float(x), 0.0]]), side) == pytest.approx([share])


def test_iou_of_a_square_and_its_half():
    assert iou(shapely.box(0, 0, 2, 2), shapely.box(0, 0, 2, 1)) == pytest.approx(0.5)


@pytest.fixture
def pixels():
    return np.random.default_rng(3).integers(0, 256, (40, 60, 3)).astype(np.uint8)


@pytest.mark.parametrize(("quarters", "flipped"), [(0, False), (1, False), (3, False), (2, True)])
def test_a_tile_at_a_quarter_turn_has_the_very_pixels(pixels, quarters, flipped):
    (turn,) = turns(np.array([90.0 * quarters]), np.array([flipped]))
    tile = tile_of(Held(pixels), np.array([30.0, 20.0]), turn, 16)
    cut = pixels[12:28, 22:38]
    expected = np.rot90(cut[:, ::-1] if flipped else cut, -quarters)  # rot90 turns anticlockwise
    assert (tile == expected).all()


def test_beyond_its_edge_a_picture_is_mirrored(pixels):
    tile = tile_of(Held(pixels), np.array([0.0, 0.0]), np.eye(2), 16)
    corner = pixels[:8, :8]
    mirrored = np.concatenate([corner[:, ::-1], corner], axis=1)
    assert (tile == np.concatenate([mirrored[::-1], mirrored])).all()
