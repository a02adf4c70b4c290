"""Who wins a vote: ties, and slots that nothing was found for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.evaluation import votes
from microtome.evaluation.votes import NO_CLASS, majority
from support import plain_metrics

NONE = NO_CLASS


@pytest.mark.parametrize(
    ("found", "winner"),
    [
        ([3], 3),
        ([1, 2, 2], 2),
        ([1, 2, 2, 1], 1),  # as many each: the nearest one's
        ([2, 1, 1, 2, 3], 2),
        ([1, 2, 3], 1),  # a plurality is enough
        ([1, 1, NONE], 1),  # the third can't change it
        ([1, NONE], 1),  # another class would only draw level, from further off
        ([1, NONE, NONE], NONE),  # two of another class would win
        ([1, 2, NONE], NONE),  # a second 2 would win
        ([2, 1, 1, NONE], NONE),  # a second 2 would draw level, and is nearer
        ([1, 2, 2, 2, NONE], 2),
        ([NONE, NONE], NONE),
    ],
)
def test_the_winner_by_eye(found, winner):
    assert majority(np.array([found])).tolist() == [winner]


def lists_of_found(k: int):
    filled = st.lists(st.integers(0, 3), max_size=k)
    return filled.map(lambda found: found + [NONE] * (k - len(found)))


@settings(max_examples=150)
@given(st.integers(1, 6).flatmap(lambda k: st.lists(lists_of_found(k), min_size=1, max_size=4)))
def test_against_every_way_to_fill_the_empty_slots(rows):
    plain = [plain_metrics.majority([None if x == NONE else x for x in row]) for row in rows]
    assert majority(np.array(rows)).tolist() == [NONE if x is None else x for x in plain]


def test_many_rows_are_taken_in_parts(monkeypatch):
    rows = np.random.default_rng(0).integers(0, 3, (100, 5))
    whole = majority(rows)
    monkeypatch.setattr(votes, "_AT_ONCE", 7 * 5)
    assert majority(rows).tolist() == whole.tolist()


def test_many_voters_take_memory_for_each_but_once():
    rows = np.random.default_rng(0).integers(0, 3, (4, 20_000))  # each with each: 12 GB
    assert majority(rows).tolist() == [np.bincount(row).argmax() for row in rows]
