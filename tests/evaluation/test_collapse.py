"""What leave-one-image-out hides, on sets where the right answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from microtome.errors import NothingToFind
from microtome.evaluation.collection import Collection
from microtome.evaluation.evaluate import Contender, Evaluation, evaluate
from microtome.evaluation.peers import random_vectors
from microtome.evaluation.protocols import PROTOCOLS
from microtome.evaluation.report import sentences, to_json

PATIENTS, EACH, CLASSES = 30, 4, 3


def patients(classes: int = CLASSES) -> Collection:
    """Patients of one class each, with a few images."""
    count = PATIENTS * EACH
    of = np.arange(count) // EACH
    return Collection(
        "patients",
        tuple("abc"),
        of % classes,
        tuple(f"p{one}" for one in of),
        ("all",) * count,
        tuple(f"p{one}/{place}" for place, one in enumerate(of)),
        grouped_by="patient",
    )


def judged(vectors: np.ndarray, collection: Collection) -> Evaluation:
    noise = 0.05 * np.random.default_rng(3).normal(size=vectors.shape)
    return evaluate(PROTOCOLS["folder"], collection, [Contender("x", vectors + noise)], ks=(1, 5))


def test_a_model_that_knows_only_patients_collapses_and_it_is_said() -> None:
    of = np.arange(PATIENTS * EACH) // EACH
    found = judged(random_vectors(PATIENTS, 0)[of], patients())

    (collapse,) = found.collapses
    assert collapse.loose == 1.0
    assert collapse.strict < 0.6
    assert collapse.certain
    assert collapse.fall.low < collapse.loose - collapse.strict < collapse.fall.high
    said = " ".join(sentences(found))
    assert "R@1 is 100.0% with the query's own patient in the gallery" in said
    assert "are images of one patient finding each other" in said
    assert "isn't certainly better than chance" in said


def test_a_model_that_knows_the_class_does_not() -> None:
    collection = patients()
    found = judged(np.eye(CLASSES)[collection.labels], collection)

    (collapse,) = found.collapses
    assert collapse.loose == collapse.strict == 1.0
    assert not collapse.certain
    assert collapse.better_than_chance
    assert "takes nothing away that is certain" in " ".join(sentences(found))


def test_what_can_t_be_found_without_the_patient_is_no_collapse() -> None:
    """A class of one patient is answered with that patient only: those queries don't count."""
    collection = Collection(
        "alone", tuple("abc"), np.array([0, 0, 1, 1, 1, 1]), tuple("ppqqrr"), ("all",) * 6,
        tuple(str(place) for place in range(6)), grouped_by="patient",
    )  # fmt: skip
    vectors = np.eye(2)[[0, 0, 1, 1, 1, 1]]

    (collapse,) = judged(vectors, collection).collapses

    assert collapse.queries == 4
    assert (collapse.loose, collapse.strict) == (1.0, 1.0)


def test_classes_of_one_patient_each_can_t_be_judged_by_patient() -> None:
    count = 6
    collection = Collection(
        "alone", tuple("abc"), np.array([0, 0, 1, 1, 2, 2]), tuple("ppqqrr"), ("all",) * count,
        tuple(str(place) for place in range(count)), grouped_by="patient",
    )  # fmt: skip
    with pytest.raises(NothingToFind):
        judged(np.eye(3)[[0, 0, 1, 1, 2, 2]], collection)


def test_the_json_holds_the_collapse_and_both_chances() -> None:
    of = np.arange(PATIENTS * EACH) // EACH
    facts = to_json(judged(random_vectors(PATIENTS, 0)[of], patients()))

    (collapse,) = facts["collapse"]
    assert collapse["certain"] is True
    assert collapse["R@1"]["own group to be found"] == 1.0
    # Of 119 others 39 are of the class; of the 116 of other patients 36 are.
    assert collapse["chance"]["own group to be found"] == pytest.approx(39 / 119)
    assert collapse["chance"]["own group left out"] == pytest.approx(36 / 116)
    loose, strict = facts["arms"]
    assert loose["leakage"]["found"] is True
    assert strict["leakage"]["same_group"]["queries"] == 0
