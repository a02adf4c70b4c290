"""Batches by class, for any number of classes from two, the same on any number of workers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microtome.errors import SettingError
from microtome_training.sampler import Batches, Share

labelled = st.lists(st.integers(1, 30), min_size=2, max_size=12).map(
    lambda counts: np.repeat(np.arange(len(counts)), counts)
)


@given(
    labels=labelled, per_class=st.integers(2, 6), slots=st.integers(2, 16), seed=st.integers(0, 9)
)
def test_every_batch_holds_its_classes_in_equal_parts(labels, per_class, slots, seed) -> None:
    batches = Batches(labels, per_class * slots, per_class, seed)
    for batch in batches.epoch(0):
        classes, counts = np.unique(labels[batch], return_counts=True)
        assert len(classes) == min(slots, labels.max() + 1)
        assert (counts % per_class == 0).all()
        assert counts.max() - counts.min() <= per_class


@given(labels=labelled, per_class=st.integers(2, 6), seed=st.integers(0, 9))
def test_no_image_comes_twice_in_a_batch_while_others_of_its_class_wait(
    labels, per_class, seed
) -> None:
    for batch in Batches(labels, per_class * 2, per_class, seed).epoch(0):
        for label in np.unique(labels[batch]):
            drawn = batch[labels[batch] == label]
            assert len(np.unique(drawn)) == min(len(drawn), (labels == label).sum())


def test_classes_take_turns() -> None:
    labels = np.repeat(np.arange(7), 20)  # with batches of four classes out of seven
    epoch = Batches(labels, 8, 2, 0).epoch(3)
    counts = np.bincount(labels[epoch].ravel(), minlength=7)
    assert counts.max() - counts.min() <= 4  # a round and the start of the next


def test_without_classes_every_image_comes_once() -> None:
    epoch = Batches(np.zeros(20, int), 5, None, 0).epoch(1)
    assert sorted(epoch.ravel()) == list(range(20))


@pytest.mark.parametrize("per_class", [None, 2])
def test_epochs_differ_and_repeat_by_seed(per_class: int | None) -> None:
    labels = np.repeat(np.arange(3), 8)
    first, again = (Batches(labels, 6, per_class, 4).epoch(0) for _ in range(2))
    assert (first == again).all()
    assert (first != Batches(labels, 6, per_class, 4).epoch(1)).any()
    assert (first != Batches(labels, 6, per_class, 5).epoch(0)).any()


@pytest.mark.parametrize("workers", [1, 2, 3, 6])
def test_workers_share_out_the_very_same_batch(workers: int) -> None:
    batch = Batches(np.repeat(np.arange(3), 8), 6, 2, 0).epoch(0)[0]
    parts = [Share(rank, workers).of(batch) for rank in range(workers)]
    assert sorted(np.concatenate(parts)) == sorted(batch)
    assert {len(part) for part in parts} == {6 // workers}


def test_a_set_smaller_than_a_batch_still_fills_one() -> None:
    assert Batches(np.array([0, 1, 1]), 8, 2, 0).epoch(0).shape == (1, 8)


def test_one_class_can_t_be_drawn_by_class() -> None:
    with pytest.raises(SettingError, match="two classes"):
        Batches(np.zeros(9, int), 4, 2, 0)
