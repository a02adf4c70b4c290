"""A set of labelled images: a table that knows its classes, and refuses to be wrong."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microtome.datasets.labelled import SAMPLES, LabelledSet
from microtome.datasets.samples import regions_of, samples_of
from microtome.errors import DatasetInvalid, SettingError
from support.labelled_sets import made_set

CLASSES = ("gland", "stroma")
COLUMNS = {
    "uri": ["a.png", "b.png", "c.png"],
    "label": [0, 1, 0],
    "group": ["p1", None, "p1"],
    "split": ["train", "test", "train"],
}


def test_a_set_knows_its_labels_groups_and_splits() -> None:
    labelled = LabelledSet("made", CLASSES, samples_of(COLUMNS))

    assert len(labelled) == 3
    assert labelled.labels.tolist() == [0, 1, 0]
    assert labelled.labels.dtype == np.int64
    assert labelled.groups == ("p1", None, "p1")
    assert labelled.splits == {"train": 2, "test": 1}


def test_a_split_keeps_all_classes() -> None:
    test = LabelledSet("made", CLASSES, samples_of(COLUMNS)).split("test")

    assert (len(test), test.classes, test.labels.tolist()) == (1, CLASSES, [1])


def test_an_unknown_split_is_named_with_those_there_are() -> None:
    labelled = LabelledSet("made", CLASSES, samples_of(COLUMNS), home="https://example.org")

    with pytest.raises(SettingError, match=r"'val'.*train, test.*example\.org"):
        labelled.split("val")


def test_images_are_taken_in_the_order_asked_for() -> None:
    labelled = LabelledSet("made", CLASSES, samples_of(COLUMNS))

    taken = labelled.take(np.array([2, 1]))

    assert taken.samples["uri"].to_pylist() == ["c.png", "b.png"]


def test_a_row_is_small_plain_and_null_where_nothing_is_needed() -> None:
    row = samples_of(COLUMNS).slice(0, 1).to_pylist()[0]

    assert row == dict.fromkeys(SAMPLES.names) | {
        "uri": "a.png",
        "label": 0,
        "group": "p1",
        "split": "train",
    }


def test_a_region_is_null_where_it_says_nothing() -> None:
    region = regions_of({"x": [1], "y": [2], "tile_px": [3]})

    assert region.to_pylist() == [
        {"x": 1, "y": 2, "tile_px": 3, "mpp": None, "slide_mpp": None, "content_id": None}
    ]


@pytest.mark.parametrize(
    ("samples", "says"),
    [
        (samples_of(COLUMNS).drop_columns(["bgr"]), "columns"),
        (SAMPLES.empty_table(), "no images"),
        (samples_of(COLUMNS | {"label": [0, 1, 2]}), "2 classes"),
        (samples_of(COLUMNS | {"label": [0, 1, -1]}), "2 classes"),
    ],
)
def test_a_table_that_is_no_set_is_refused(samples: pa.Table, says: str) -> None:
    with pytest.raises(DatasetInvalid, match=says):
        LabelledSet("made", CLASSES, samples)


@given(
    st.lists(
        st.tuples(st.sampled_from(["train", "test"]), st.sampled_from(["p1", "p2", "p3", None])),
        min_size=1,
    )
)
def test_no_set_exists_whose_splits_share_a_group(rows: list[tuple[str, str | None]]) -> None:
    splits, groups = zip(*rows, strict=True)
    samples = samples_of(
        {"uri": ["a.png"] * len(rows), "label": [0] * len(rows), "group": groups, "split": splits}
    )
    sides = [{group for split, group in rows if split == one} for one in ("train", "test")]
    leaks = bool((sides[0] & sides[1]) - {None})

    if leaks:
        with pytest.raises(DatasetInvalid, match="lies in"):
            LabelledSet("made", CLASSES, samples)
    else:
        assert len(LabelledSet("made", CLASSES, samples)) == len(rows)


def test_a_million_samples_stay_a_table() -> None:
    rows = 1_281_167
    uri = pa.repeat(pa.scalar("train.tar"), rows)
    offsets = pa.array(np.arange(rows))
    samples = samples_of({"uri": uri, "offset": offsets, "label": pa.array(np.arange(rows) % 1000)})

    labelled = LabelledSet("large", tuple(map(str, range(1000))), samples)

    assert labelled.split("all").samples.nbytes < 200e6
    assert labelled.take([rows - 1]).samples["offset"].to_pylist() == [rows - 1]


def test_notes_are_added_not_replaced() -> None:
    assert made_set([0], [None], 1).noted("one").noted("two").notes == ("one", "two")
