"""Metrics by hand, and against slow loops over made neighbours."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.errors import EvaluationError, NothingToFind, SettingError
from microtome.evaluation.left_out import LeftOut
from microtome.evaluation.metrics import judge, map_at_k_variants
from microtome.evaluation.neighbours import MISSING, Neighbours
from support import plain_metrics
from support.plain_metrics import Query

KS = (1, 2, 3, 5)


def neighbours(*rows: list[int], left_out: LeftOut | None = None) -> Neighbours:
    places = np.array(rows, dtype=np.int64)
    return Neighbours(places, np.where(places == MISSING, -np.inf, 0.5), left_out)


def whole(*numbers: int) -> np.ndarray:
    return np.array(numbers, dtype=np.int64)


def test_one_query_by_hand():
    # Found: wrong, right, wrong, right; three of its class are in the gallery, one was not found.
    scores = judge(neighbours([0, 1, 2, 3]), whole(7), whole(0, 7, 1, 7, 7), ks=(1, 2, 4))
    expected = {
        "R@1": 0, "R@2": 1, "R@4": 1,
        "P@1": 0, "P@2": 1 / 2, "P@4": 1 / 2,
        "MRR": 1 / 2,
        "mAP@1": 0, "mAP@2": (1 / 2) / 2, "mAP@4": (1 / 2 + 2 / 4) / 3,
        "mAP@R": (1 / 2) / 3,
        "mMV@1": 0, "mMV@2": 0, "mMV@4": 1,  # of two tied classes the nearer one
        "eta_p": 0, "eta_W": 0, "eta_total": 0,
    }  # fmt: skip
    assert {name: scores.values[name] for name in expected} == pytest.approx(expected)


def test_kimia_s_three_by_hand():
    # Scan 0: 3 of 4 patches right; scan 1: 1 of 1; scan 2: 0 of 1.
    found = neighbours([0], [0], [0], [1], [1], [0])
    values = judge(found, whole(0, 0, 0, 0, 1, 2), whole(0, 1, 2), ks=(1,)).values
    assert values["eta_p"] == pytest.approx(4 / 6)
    assert values["eta_W"] == pytest.approx((3 / 4 + 1 + 0) / 3)
    assert values["eta_total"] == pytest.approx(4 / 6 * (3 / 4 + 1 + 0) / 3)


def test_eta_w_is_recall_where_the_published_script_takes_precision():
    # All of scan 0 right, scan 1 taken for scan 0: its column of the confusion matrix is empty.
    values = judge(neighbours([0], [0]), whole(0, 1), whole(0, 1), ks=(1,)).values
    assert values["eta_W"] == pytest.approx(1 / 2)


@st.composite
def made(draw):
    """Labels of few classes, some alone, and distinct neighbours, some of them missing."""
    gallery = draw(st.lists(st.integers(0, 3), min_size=1, max_size=9))
    labels = draw(st.lists(st.integers(0, 4), min_size=1, max_size=7))
    rows = []
    for _ in labels:
        order = draw(st.permutations(range(len(gallery))))
        found = draw(st.integers(0, min(5, len(gallery))))
        rows.append([*order[:found], *[MISSING] * (5 - found)])
    return gallery, labels, rows


def plain(gallery, labels, rows) -> list[Query]:
    return [
        Query(
            [None if place == MISSING else gallery[place] for place in row],
            label,
            gallery.count(label),
        )
        for label, row in zip(labels, rows, strict=True)
    ]


@settings(max_examples=120)
@given(made())
def test_against_slow_loops(case):
    gallery, labels, rows = case
    queries = plain(*case)
    if not any(query.to_find for query in queries):
        with pytest.raises(NothingToFind):
            judge(neighbours(*rows), whole(*labels), whole(*gallery), KS)
        return

    scores = judge(neighbours(*rows), whole(*labels), whole(*gallery), KS)

    expected = plain_metrics.everything(queries, KS)
    if max(query.to_find for query in queries) <= 5:
        expected["mAP@R"] = plain_metrics.map_at_r(queries)
    assert scores.values == pytest.approx(expected)
    assert scores.unanswerable == sum(query.to_find == 0 for query in queries)


@settings(max_examples=60)
@given(made())
def test_the_three_maps_against_slow_loops(case):
    gallery, labels, rows = case
    queries = plain(*case)
    variants = map_at_k_variants(neighbours(*rows), whole(*labels), whole(*gallery), 3)
    hits = [sum(query.right(i) for i in (1, 2, 3)) for query in queries]
    if any(query.to_find for query in queries):
        assert variants["standard"] == pytest.approx(plain_metrics.map_at_k(queries, 3))
    assert variants["over k"] == pytest.approx(
        plain_metrics.mean([query.precisions(3) / 3 for query in queries])
    )
    assert variants["over found"] == pytest.approx(
        plain_metrics.mean(
            [query.precisions(3) / n if n else 0 for query, n in zip(queries, hits, strict=True)]
        )
    )


def test_one_right_answer_at_the_top_is_worth_three_things():
    # One of five found is right and first; ten of its class were there to be found.
    gallery = whole(*[1] * 10, *[0] * 4)
    found = neighbours([0, 10, 11, 12, 13])
    assert map_at_k_variants(found, whole(1), gallery, 5) == pytest.approx(
        {"standard": 1 / 5, "over k": 1 / 5, "over found": 1.0}
    )
    few = whole(1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    assert map_at_k_variants(found, whole(1), few, 5) == pytest.approx(
        {"standard": 1.0, "over k": 1 / 5, "over found": 1.0}
    )


def test_a_class_of_one_counts_as_wrong_but_has_no_average_precision():
    # Images 0 and 1 find each other; 2 is alone in its class.
    found = neighbours([1, 2], [0, 2], [0, 1], left_out=LeftOut.within([None] * 3))
    scores = judge(found, whole(0, 0, 1), whole(0, 0, 1), ks=(1, 2))
    assert scores.values["R@1"] == pytest.approx(2 / 3)
    assert scores.values["mAP@2"] == 1
    assert (scores.queries, scores.unanswerable) == (3, 1)
    assert np.isnan(scores.per_query["mAP@R"][2])
    assert "1 of 3 queries have no image of their class to find" in scores.notes[0]


def test_what_is_missing_is_said_and_wrong():
    scores = judge(neighbours([0, 1, MISSING, MISSING]), whole(0), whole(0, 0), ks=(4,))
    assert scores.values["P@4"] == 1 / 2
    assert "1 of 1 queries may find fewer than 4 images" in scores.notes[0]


def test_map_at_r_is_not_guessed_from_too_few_neighbours():
    assert "mAP@R" not in judge(neighbours([0]), whole(0), whole(0, 0), ks=(1,)).values


def test_the_confusion_matrix_has_a_column_for_no_class():
    found = neighbours([0], [1], [MISSING])
    scores = judge(found, whole(0, 0, 1), whole(0, 2), ks=(1,))
    assert scores.confusion(1, classes=3).tolist() == [[1, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]


def test_what_is_left_out_is_not_there_to_be_found():
    found = neighbours([1], left_out=LeftOut(whole(5), whole(5, 6, 6)))
    scores = judge(found, whole(0), whole(0, 0, 1), ks=(1,))
    assert scores.to_find.tolist() == [1]


def test_scores_are_ready_for_json():
    scores = judge(neighbours([0]), whole(0), whole(0, 1), ks=(1,))
    told = json.loads(json.dumps(scores.to_json(), allow_nan=False))
    assert (told["metrics"]["R@1"], told["queries"], told["answerable"]) == (1.0, 1, 1)


@pytest.mark.parametrize(
    ("labels", "gallery", "ks", "error"),
    [
        (whole(0), whole(0, 1), (3,), "k is 3, but only 2 neighbours"),
        (whole(0, 0), whole(0, 1), (1,), "2 labels for the neighbours of 1 queries"),
        (whole(0), whole(0), (1,), "more images than its 1 labels"),
        (whole(-1), whole(0, 1), (1,), "a label is negative"),
    ],
)
def test_what_does_not_fit_is_refused(labels, gallery, ks, error):
    with pytest.raises(EvaluationError, match=error):
        judge(neighbours([0, 1]), labels, gallery, ks)


def test_a_k_of_nothing_is_refused():
    with pytest.raises(SettingError, match="k must"):
        judge(neighbours([0, 1]), whole(0), whole(0, 1), (0,))


def test_nothing_asked_is_nothing_found():
    empty = Neighbours(np.empty((0, 1), np.int64), np.empty((0, 1), np.float32))
    with pytest.raises(NothingToFind, match="none of the 0 queries"):
        judge(empty, whole(), whole(0), (1,))
