from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.search.region_bank import VIEW_ANGLES, VIEW_FLIPS
from microtome.search.region_placement import Placement
from microtome.search.region_votes import Matches, spots

POINTS = np.array([[x, y] for x in (-300.0, -100.0, 0.0, 200.0) for y in (-150.0, 0.0, 130.0)])
BIN = 64.0
PLACEMENTS = st.builds(
    Placement,
    st.floats(1000, 9000),
    st.floats(1000, 9000),
    st.integers(0, 23).map(lambda step: 15.0 * step),
    st.booleans(),
)


def matches(places, slides=0, weights=1.0, points=None, views=-1) -> Matches:
    count = len(places)
    return Matches(
        point=np.arange(count) if points is None else np.array(points),
        view=np.broadcast_to(views, count).astype(np.int64),
        slide=np.broadcast_to(slides, count).astype(np.int64),
        place=np.array(places, np.float64),
        weight=np.broadcast_to(weights, count).astype(np.float64),
    )


@settings(max_examples=30)
@given(PLACEMENTS)
def test_tiles_that_lie_as_the_query_does_agree_on_its_middle(placement):
    found = spots(POINTS, matches(placement.on_slide(POINTS)), BIN, 1)[0]
    assert np.hypot(found.x - placement.x, found.y - placement.y) <= BIN
    assert found.votes > len(POINTS) / 4  # each is shared by four bins


@settings(max_examples=30)
@given(PLACEMENTS)
def test_a_view_votes_for_turns_near_to_it_only(placement):
    views = np.arange(8)
    apart = np.abs((VIEW_ANGLES - placement.angle_deg + 180) % 360 - 180)
    right = int(views[(placement.flipped == VIEW_FLIPS) & (apart <= 45)][0])
    opposite = (right + 2) % 4 + 4 * (right // 4)
    there = placement.on_slide(POINTS)
    agreeing = spots(POINTS, matches(there, views=right), BIN, 1)[0].votes
    assert spots(POINTS, matches(there, views=opposite), BIN, 1)[0].votes < agreeing


def test_the_same_tiles_in_disorder_agree_on_nothing():
    there = Placement(5000, 5000, 0, False).on_slide(POINTS)
    in_order = spots(POINTS, matches(there), BIN, 1)[0].votes
    in_disorder = spots(POINTS, matches(np.roll(there, 5, axis=0)), BIN, 1)[0].votes
    assert in_disorder < 0.6 * in_order


def test_one_part_votes_once_however_often_it_is_found():
    same = spots(POINTS, matches([[500, 500]] * 9, points=[4] * 9), BIN, 1)[0]
    assert same.votes == pytest.approx(spots(POINTS, matches([[500, 500]]), BIN, 1)[0].votes, abs=1)
    assert same.votes <= 1


def test_spots_come_best_first_slide_by_slide_and_apart():
    there = [Placement(x, 2000, 0, False).on_slide(POINTS) for x in (2000, 5000, 2000)]
    slides = np.repeat([0, 0, 3], len(POINTS))
    weights = np.repeat([1.0, 3.0, 2.0], len(POINTS))
    points = np.tile(np.arange(len(POINTS)), 3)
    cast = matches(np.concatenate(there), slides, weights, points)
    found = spots(POINTS, cast, BIN, 50)
    assert [one.slide for one in found[:2]] == [0, 3]
    assert found[0].x == pytest.approx(5000, abs=BIN)
    assert [one.votes for one in found] == sorted((one.votes for one in found), reverse=True)
    for place, one in enumerate(found):
        for other in found[:place]:
            apart = max(abs(one.x - other.x), abs(one.y - other.y))
            assert one.slide != other.slide or apart >= 2 * BIN - 1e-6


def test_without_votes_there_is_no_spot():
    assert spots(POINTS, matches(np.empty((0, 2))), BIN, 5) == []
