"""Splits keep slides and patients whole, and classes in proportion."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microtome.datasets.labelled import split_by_group
from microtome.errors import SettingError, SplitImpossible
from support.labelled_sets import made_set

GROUPED = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from("abcdefgh")), min_size=2, max_size=60
).filter(lambda rows: len({group for _, group in rows}) > 1)


@given(GROUPED, st.floats(0.01, 0.99), st.integers(0, 5))
def test_no_group_is_ever_on_both_sides(
    rows: list[tuple[int, str]], fraction: float, seed: int
) -> None:
    labelled = made_set(*zip(*rows, strict=True), classes=4)

    rest, held_out = split_by_group(labelled, fraction, seed)

    assert not set(rest.groups) & set(held_out.groups)
    uris = rest.samples["uri"].to_pylist() + held_out.samples["uri"].to_pylist()
    assert sorted(uris) == sorted(labelled.samples["uri"].to_pylist())
    assert len(rest) > 0
    assert len(held_out) > 0


@given(st.lists(st.integers(0, 3), min_size=2, max_size=60), st.floats(0.01, 0.99))
def test_without_groups_images_are_dealt_out_and_that_is_said(
    labels: list[int], fraction: float
) -> None:
    labelled = made_set(labels, [None] * len(labels), classes=4)

    rest, held_out = split_by_group(labelled, fraction, seed=0)

    assert len(rest) + len(held_out) == len(labelled)
    assert min(len(rest), len(held_out)) > 0
    for side in (rest, held_out):
        assert any("image by image" in note for note in side.notes)


def test_every_class_gets_its_share_where_groups_allow() -> None:
    labels = [0] * 400 + [1] * 40
    groups = [f"a{number // 10}" for number in range(400)] + [f"b{n // 2}" for n in range(40)]

    _, held_out = split_by_group(made_set(labels, groups, 2), 0.25, seed=1)

    assert np.bincount(held_out.labels).tolist() == [100, 10]


def test_groups_of_unlike_size_still_come_near_the_fraction() -> None:
    random = np.random.default_rng(0)
    sizes = random.integers(1, 60, 80)
    groups = [f"g{number}" for number, size in enumerate(sizes) for _ in range(size)]
    labels = random.integers(0, 5, len(groups))

    _, held_out = split_by_group(made_set(labels.tolist(), groups, 5), 0.2, seed=0)

    shares = np.bincount(held_out.labels) / np.bincount(labels)
    assert np.abs(shares - 0.2).max() < 0.04


def test_a_seed_gives_one_split_and_another_a_different_one() -> None:
    labelled = made_set([0, 1] * 50, [f"g{number // 2}" for number in range(100)], 2)

    splits = [split_by_group(labelled, 0.3, seed)[1].samples["uri"] for seed in (1, 1, 2)]

    assert splits[0] == splits[1]
    assert splits[0] != splits[2]


def test_a_class_of_one_group_lies_on_one_side_and_that_is_said() -> None:
    labelled = made_set([0] * 8 + [1] * 3, [*"aabbccdd", *"eee"], 2)

    rest, held_out = split_by_group(labelled, 0.25, seed=0)

    assert not (set(rest.labels) & set(held_out.labels)) & {1}
    assert any("class 1" in note for note in rest.notes)
    assert rest.notes == held_out.notes


@pytest.mark.parametrize(
    ("groups", "says"),
    [
        (["p1", "p1", "p1"], "all images of made are of one group, p1"),
        (["p1", None, "p2"], "1 of the 3 images of made have no group"),
    ],
)
def test_what_can_t_be_kept_apart_is_refused(groups: list[str | None], says: str) -> None:
    with pytest.raises(SplitImpossible, match=says):
        split_by_group(made_set([0, 1, 0], groups, 2), 0.5, seed=0)


def test_one_image_can_t_be_parted() -> None:
    with pytest.raises(SplitImpossible):
        split_by_group(made_set([0], [None], 1), 0.5, seed=0)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_a_fraction_that_leaves_a_side_empty_is_named(fraction: float) -> None:
    with pytest.raises(SettingError, match=str(fraction)):
        split_by_group(made_set([0, 1], ["a", "b"], 2), fraction, seed=0)
