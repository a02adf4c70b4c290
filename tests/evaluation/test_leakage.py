"""A query's own image, or its case, in the gallery is found and told; what is left out is none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from microtome.datasets.duplicates import pixel_hashes
from microtome.datasets.image import read_image
from microtome.datasets.labelled import load_dataset
from microtome.errors import EvaluationError, VectorsInvalid
from microtome.evaluation.leakage import Side, check
from microtome.evaluation.left_out import LeftOut
from microtome.evaluation.neighbours import nearest_in


def side(prefix: str, n: int, seed: int) -> Side:
    """Random vectors, none near another."""
    vectors = np.random.default_rng(seed).normal(size=(n, 32)).astype(np.float32)
    return Side([f"{prefix}{i}" for i in range(n)], vectors=vectors)


def with_vector(whose: Side, place: int, vector: np.ndarray) -> Side:
    vectors = whose.vectors.copy()
    vectors[place] = vector
    return replace(whose, vectors=vectors)


def test_nothing_shared_is_nothing_found():
    queries = replace(side("q", 4, 0), groups=["a", "b", None, None], hashes=list("wxyz"))
    gallery = replace(side("g", 3, 1), groups=["c", None, "d"], hashes=list("tuv"))
    leaks = check(queries, gallery)
    assert not leaks.found
    assert leaks.same_group.queries == 0
    assert leaks.sentences() == (
        "3 images have no group: whether they are of one that is on the other side can't be said",
    )


def test_a_group_on_both_sides():
    queries = replace(side("q", 3, 0), groups=["a", "b", "a"])
    gallery = replace(side("g", 3, 1), groups=["c", "a", "a"])
    leaks = check(queries, gallery)
    assert leaks.same_group.queries == 2
    assert leaks.same_group.examples == (("q0", "g1"), ("q2", "g1"))
    assert "2 of 3 queries are of a group that is in the gallery too, e.g. q0 and g1" in (
        leaks.sentences()
    )


def test_the_same_pixels():
    queries = replace(side("q", 2, 0), hashes=["x", "y"])
    gallery = replace(side("g", 3, 1), hashes=["z", "y", "y"])
    leaks = check(queries, gallery)
    assert (leaks.same_pixels.queries, leaks.same_pixels.examples) == (1, (("q1", "g1"),))


def test_a_copy_of_a_query_in_the_gallery():
    queries, gallery = side("q", 200, 0), side("g", 300, 1)
    leaks = check(queries, with_vector(gallery, 17, queries.vectors[5]))
    assert (leaks.same_vector.queries, leaks.same_vector.examples) == (1, (("q5", "g17"),))
    assert leaks.near_vector.queries == 0
    assert leaks.found


@pytest.mark.parametrize(("angle_deg", "near"), [(1.0, 1), (2.0, 1), (3.0, 0)])  # acos 0.999: 2.56°
def test_near_is_a_cosine(angle_deg, near):
    queries = Side(["q"], vectors=np.array([[1.0, 0.0]]))
    angle = np.radians(angle_deg)
    gallery = Side(["f", "g"], vectors=np.array([[0, 1], [5 * np.cos(angle), 5 * np.sin(angle)]]))
    leaks = check(queries, gallery)
    assert leaks.near_vector.queries == near
    assert leaks.near_vector.examples == (("q", "g"),) * near
    assert check(queries, gallery, threshold=0.99).near_vector.queries == 1


def test_a_jpeg_copy_is_near_and_has_other_pixels(tmp_path: Path):
    """Its vector is a model of no depth: the picture, made small."""
    random = np.random.default_rng(0)
    for number in range(6):
        smooth = Image.fromarray(random.integers(0, 256, (6, 6, 3), np.uint8)).resize((64, 64))
        (tmp_path / "gallery").mkdir(exist_ok=True)
        smooth.save(tmp_path / "gallery" / f"{number}.png")
    (tmp_path / "queries").mkdir()
    smooth.save(tmp_path / "queries" / "5.jpg", quality=75)
    labelled = load_dataset(f"folder:{tmp_path}")
    hashes = pixel_hashes(labelled)
    small = [
        np.asarray(Image.fromarray(read_image(row)).resize((8, 8)), np.float32).ravel() - 128
        for row in labelled.samples.to_pylist()
    ]
    query = [i for i, row in enumerate(labelled.samples.to_pylist()) if "5.jpg" in row["uri"]]
    rest = [i for i in range(7) if i not in query]
    sides = [
        Side(
            [f"image {i}" for i in rows],
            hashes=[hashes[i] for i in rows],
            vectors=np.array(small)[rows],
        )
        for rows in (query, rest)
    ]

    leaks = check(*sides)

    assert leaks.same_pixels.queries == leaks.same_vector.queries == 0
    assert leaks.near_vector.queries == 1
    assert leaks.near_vector.examples[0][1] == f"image {rest[5]}"
    assert "cosine of 0.999 or more" in " ".join(leaks.sentences())


def test_what_is_left_out_can_t_leak():
    both = replace(side("i", 6, 0), groups=list("aabbcc"), hashes=list("xxyzyw"))
    both = with_vector(both, 1, both.vectors[0])
    alone = check(both, both, left_out=LeftOut.within([None] * 6))
    assert (alone.same_group.queries, alone.same_pixels.queries) == (6, 4)
    assert alone.same_vector.examples == (("i0", "i1"), ("i1", "i0"))
    apart = check(both, both, left_out=LeftOut.within(both.groups))
    assert apart.same_group.queries == 0
    assert apart.same_pixels.examples == (("i2", "i4"), ("i4", "i2"))
    assert apart.same_vector.queries == 0


def test_what_can_t_be_compared_is_said():
    leaks = check(Side(["q"], hashes=["x"]), Side(["g"], groups=["a"]))
    assert leaks.same_group.queries is None
    assert not leaks.found
    assert leaks.sentences() == (
        "without groups of both sides it can't be said whether they share any",
        "without pixel hashes of both sides it can't be said whether they share any",
        "without vectors of both sides it can't be said whether they share any",
    )


def test_nobody_s_groups_are_as_good_as_none():
    nobody, somebody = Side(["i"], groups=[None]), Side(["i"], groups=["a"])
    assert check(nobody, somebody).same_group.queries is None
    assert "without groups of both sides" in check(somebody, nobody).sentences()[0]


def test_examples_are_few():
    both = replace(side("i", 50, 0), groups=["a"] * 50)
    assert len(check(both, both).same_group.examples) == 5


def test_it_is_ready_for_json():
    told = json.loads(json.dumps(check(side("q", 2, 0), side("q", 2, 0)).to_json()))
    assert told["found"] is True
    assert told["same_vector"] == {"queries": 2, "examples": [["q0", "q0"], ["q1", "q1"]]}


def test_sides_must_fit():
    with pytest.raises(EvaluationError, match="1 groups for 2 images"):
        Side(["a", "b"], groups=["x"])
    with pytest.raises(EvaluationError, match="for 3 queries and 3 images"):
        check(side("q", 2, 0), side("g", 2, 1), left_out=LeftOut.within([None] * 3))


def test_vectors_that_are_no_numbers_are_refused():
    broken = with_vector(side("g", 2, 1), 1, np.nan)
    with pytest.raises(VectorsInvalid, match="1 of the 2 vectors of the gallery hold NaN"):
        check(side("q", 2, 0), broken)


def test_neighbours_that_are_known_aren_t_looked_for_again():
    gallery = side("g", 5, 0)
    queries = with_vector(side("q", 3, 1), 1, gallery.vectors[4] + 1e-4)
    known = nearest_in(gallery.vectors, queries.vectors, 3)
    leaks = check(queries, gallery, nearest=known)
    assert leaks == check(queries, gallery)
    assert leaks.near_vector.examples == (("q1", "g4"),)
    elsewhere = replace(known, places=np.zeros_like(known.places))
    assert check(queries, gallery, nearest=elsewhere).near_vector.examples == (("q1", "g0"),)
