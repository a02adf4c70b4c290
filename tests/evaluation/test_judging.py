"""All metrics in one pass: mAP@R against a slow loop, and chance for vectors of chance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.errors import EvaluationError, NothingToFind, VectorsInvalid
from microtome.evaluation import judging
from microtome.evaluation.judging import Labelled, judge_vectors
from microtome.evaluation.left_out import LeftOut
from microtome.evaluation.neighbours import nearest_in
from support import plain_metrics
from support.plain_metrics import Query


def made(n: int, shares, seed: int, dim: int = 8) -> Labelled:
    random = np.random.default_rng(seed)
    labels = random.choice(len(shares), n, p=shares)
    return Labelled(random.normal(size=(n, dim)).astype(np.float32), labels)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(2, 40), st.integers(1, 5), st.integers(1, 4000))
def test_map_at_r_against_a_slow_loop(seed, images, classes, block_bytes):
    both = made(images, np.ones(classes) / classes, seed, dim=3)
    both.vectors[images // 2 :] = both.vectors[: images - images // 2]  # copies, so ties
    groups = [f"g{i}" for i in np.random.default_rng(seed).integers(0, 9, images)]
    left_out = LeftOut.within(groups)
    found = nearest_in(both.vectors, both.vectors, images, left_out=left_out)
    queries = [
        Query(
            [int(both.labels[place]) if place >= 0 else None for place in row],
            int(both.labels[i]),
            sum(groups[j] != groups[i] and both.labels[j] == both.labels[i] for j in range(images)),
        )
        for i, row in enumerate(found.places)
    ]
    if not any(query.to_find for query in queries):
        return

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judging, "BLOCK_BYTES", block_bytes)
        judged = judge_vectors(both, both, ks=(1, 3), left_out=left_out, depth=3)

    assert judged.neighbours.depth == 3
    assert judged.scores.values["mAP@R"] == pytest.approx(plain_metrics.map_at_r(queries))
    assert judged.scores.values["R@3"] == pytest.approx(plain_metrics.recall(queries, 3))


def test_random_vectors_score_chance():
    # The nearest of a random vector is anybody: right with its class's share of the gallery.
    shares = np.array([0.5, 0.3, 0.15, 0.05])
    queries, gallery = made(2000, shares, 1, dim=32), made(2000, shares, 2, dim=32)

    values = judge_vectors(queries, gallery, ks=(1, 5)).scores.values

    asked, found = (np.bincount(x.labels, minlength=4) / 2000 for x in (queries, gallery))
    chance = float(asked @ found)  # about the sum of squared shares, 0.365
    noise = 4 * np.sqrt(chance * (1 - chance) / 2000)
    assert values["R@1"] == pytest.approx(chance, abs=noise)
    assert values["R@5"] == pytest.approx(float(asked @ (1 - (1 - found) ** 5)), abs=noise)
    assert values["P@5"] == pytest.approx(chance, abs=noise)
    assert values["eta_W"] == pytest.approx(1 / 4, abs=4 * np.sqrt(0.25 * 0.75 / 100))
    # AP@R of a random order is about the square of the class's share.
    assert values["mAP@R"] == pytest.approx(float(asked @ found**2), abs=0.02)


def test_perfect_vectors_score_one():
    labels = np.repeat(np.arange(3), 10)
    both = Labelled(np.eye(3, dtype=np.float32)[labels], labels)
    values = judge_vectors(
        both, both, left_out=LeftOut.within([None] * 30), ks=(1, 5)
    ).scores.values
    assert set(values.values()) == {1.0}


def test_a_gallery_smaller_than_k_says_so():
    both = made(6, [1.0], 0)
    scores = judge_vectors(both, both, left_out=LeftOut.within([None] * 6), ks=(10,)).scores
    assert scores.values["P@10"] == 5 / 10
    assert scores.values["mAP@10"] == 1
    assert "6 of 6 queries may find fewer than 10 images" in scores.notes[0]


def test_classes_of_one_can_t_be_judged():
    both = Labelled(np.eye(3), np.arange(3))
    with pytest.raises(NothingToFind, match="none of the 3 queries"):
        judge_vectors(both, both, left_out=LeftOut.within([None] * 3))


def test_groups_must_fit():
    both = made(4, [1.0], 0)
    with pytest.raises(EvaluationError, match="for 3 queries and 3 images"):
        judge_vectors(both, both, left_out=LeftOut.within([None] * 3))


def test_labels_must_fit_their_vectors():
    with pytest.raises(VectorsInvalid, match="2 labels for 3 vectors"):
        Labelled(np.eye(3), np.arange(2))
