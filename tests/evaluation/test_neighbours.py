"""The nearest by cosine, whatever the blocks, and never of one's own group."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.errors import EvaluationError, SettingError, VectorsInvalid
from microtome.evaluation.left_out import LeftOut
from microtome.evaluation.neighbours import MISSING, nearest_in


def vectors(n: int, dim: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


@st.composite
def corners(draw, least: int = 0):
    """Corners of a cube: of length 2, so that cosines are exact, and full of ties."""
    rows = st.lists(st.sampled_from([-1.0, 1.0]), min_size=4, max_size=4)
    found = draw(st.lists(rows, min_size=least, max_size=12))
    return np.array(found, np.float32).reshape(-1, 4)


def by_hand(gallery, query, k, barred) -> list[int]:
    """Places by cosine, then by place."""
    allowed = [place for place in range(len(gallery)) if place not in barred]
    order = sorted(allowed, key=lambda place: (-float(gallery[place] @ query), place))[:k]
    return order + [MISSING] * (k - len(order))


@settings(max_examples=100)
@given(corners(), corners(1), st.integers(1, 15), st.integers(1, 200), st.data())
def test_against_sorting_by_hand(gallery, queries, k, block_bytes, data):
    group = st.integers(-2, 2)
    of_queries, of_gallery = (
        np.array(data.draw(st.lists(group, min_size=len(x), max_size=len(x))), np.int64)
        for x in (queries, gallery)
    )
    left_out = data.draw(st.sampled_from([None, LeftOut(of_queries, of_gallery)]))

    found = nearest_in(gallery, queries, k, left_out=left_out, block_bytes=block_bytes)

    for i, query in enumerate(queries):
        barred = set(np.flatnonzero(of_gallery == of_queries[i]) if left_out else ())
        expected = by_hand(gallery, query, k, barred)
        assert found.places[i].tolist() == expected
        scores = [float(gallery[p] @ query) / 4 if p >= 0 else -np.inf for p in expected]
        assert found.scores[i].tolist() == scores


@pytest.mark.parametrize("block_bytes", [1, 30_000, 1 << 26])
def test_blocks_change_nothing_that_counts(block_bytes):
    gallery, queries = vectors(3000), vectors(50, seed=1)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, gallery)]
    expected = -np.sort(-(unit[0] @ unit[1].T), axis=1)[:, :20]
    found = nearest_in(gallery, queries, 20, block_bytes=block_bytes)
    np.testing.assert_allclose(found.scores, expected, atol=1e-6)


@pytest.mark.parametrize("images", [37, 130])  # odd, so that products have edges
def test_equal_images_come_in_order_of_place(images):
    gallery = vectors(5, 67)[np.random.default_rng(2).integers(0, 5, images)]
    found = nearest_in(gallery, vectors(3, 67, seed=3), images, block_bytes=1)
    for row, scores in zip(found.places, found.scores, strict=True):
        assert len(np.unique(scores)) == 5
        assert row.tolist() == sorted(row, key=lambda place: (-scores[row == place][0], place))


def test_lengths_don_t_matter():
    gallery, queries = vectors(200), vectors(9, seed=1)
    lengths = np.random.default_rng(0).uniform(1e-3, 1e3, (200, 1))
    plain, long = (nearest_in(x, queries, 5) for x in (gallery, gallery * lengths))
    np.testing.assert_array_equal(plain.places, long.places)


@pytest.mark.parametrize("kind", [np.float16, np.float64, np.int8])
def test_other_types_are_taken(kind):
    gallery = (vectors(50) * 20).astype(kind)
    np.testing.assert_allclose(nearest_in(gallery, gallery, 1).scores, 1, atol=1e-6)


def test_a_vector_of_zeros_is_like_nothing():
    gallery = np.array([[0, 0], [-1, 0], [1, 0]], np.float32)
    found = nearest_in(gallery, np.array([[2, 0]], np.float32), 3)
    assert found.places.tolist() == [[2, 0, 1]]
    assert found.scores.tolist() == [[1, 0, -1]]


def test_one_s_own_case_is_replaced_by_others():
    gallery = vectors(300)
    cases = [f"case-{i // 3}" for i in range(300)]
    found = nearest_in(gallery, gallery, 50, left_out=LeftOut.within(cases))
    assert (found.places >= 0).all()
    assert not (found.places // 3 == np.arange(300)[:, None] // 3).any()


def test_a_case_that_is_the_whole_gallery_finds_nothing():
    gallery = vectors(4)
    found = nearest_in(gallery, gallery, 2, left_out=LeftOut.within(["a"] * 4))
    assert found.places.tolist() == [[MISSING] * 2] * 4
    assert np.isneginf(found.scores).all()


def test_a_gallery_of_nothing():
    assert nearest_in(vectors(0), vectors(2), 3).places.tolist() == [[MISSING] * 3] * 2
    assert nearest_in(vectors(2), vectors(0), 3).places.shape == (0, 3)


def test_memory_is_bounded_by_the_block():
    gallery = vectors(20_000, 4)
    tracemalloc.start()
    nearest_in(gallery, gallery[:2000], 10, block_bytes=4 << 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 << 20  # all cosines would be 160 MB


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_vectors_that_are_no_numbers_are_named(bad):
    gallery = vectors(1200)
    gallery[[3, 7, 8, 9, 10, 1100], 5] = bad
    with pytest.raises(VectorsInvalid, match=r"6 of the 1,200 vectors of the gallery.*") as error:
        nearest_in(gallery, vectors(2), 1)
    assert "row 3, 7, 8, 9, 10 …" in str(error.value)
    with pytest.raises(VectorsInvalid, match="of the queries"):
        nearest_in(vectors(2), gallery, 1)


def test_large_and_small_numbers_are_no_infinities():
    gallery = np.array([[1e30, 0], [0, 1e-30]], np.float32)
    assert nearest_in(gallery, gallery, 1).places.tolist() == [[0], [1]]


@pytest.mark.parametrize(
    ("gallery", "queries", "error"),
    [
        (np.zeros((2, 3)), np.zeros((2, 4)), "queries' vectors have 4 values and the gallery's 3"),
        (np.zeros(3), np.zeros(3), r"shape \(3,\)"),
        (np.array([["a"]]), np.zeros((1, 1)), "not .* of numbers"),
    ],
)
def test_what_can_t_be_compared_is_refused(gallery, queries, error):
    with pytest.raises(VectorsInvalid, match=error):
        nearest_in(gallery, queries, 1)


def test_groups_must_fit():
    with pytest.raises(EvaluationError, match="for 3 queries and 3 images"):
        nearest_in(vectors(4), vectors(4), 1, left_out=LeftOut.within([None] * 3))


def test_none_at_all_can_t_be_asked_for():
    with pytest.raises(SettingError, match="k must"):
        nearest_in(vectors(4), vectors(4), 0)
