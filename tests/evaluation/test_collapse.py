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
    assert collapse.due.low < collapse.matched - collapse.strict < collapse.due.high
    assert collapse.matched == 1.0
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
    assert "takes nothing more away that is certain" in " ".join(sentences(found))


def of_few_patients(patients: int, classes: int, each: int = 5) -> Collection:
    """Classes of a few patients each, who have images of that class alone."""
    of = np.arange(classes * patients * each) // each
    return Collection(
        "few", tuple(f"c{one}" for one in range(classes)), of % classes,
        tuple(f"p{one}" for one in of), ("all",) * len(of), tuple(map(str, range(len(of)))),
        grouped_by="patient",
    )  # fmt: skip


@pytest.mark.parametrize("patients", [2, 3, 5])
@pytest.mark.parametrize("signal", [0.0, 3.0], ids=["noise", "the class and noise"])
def test_fewer_of_a_class_to_find_are_no_collapse(patients: int, signal: float) -> None:
    """No image resembles those of its patient more than others: R@1 falls, but not by patients."""
    collection, certain = of_few_patients(patients, classes=10), 0
    for seed in range(10):
        vectors = np.random.default_rng(seed).normal(size=(len(collection), 64))
        vectors += signal * np.eye(10, 64)[collection.labels]
        contender = Contender("x", vectors.astype(np.float32))
        (collapse,) = evaluate(PROTOCOLS["folder"], collection, [contender]).collapses
        certain += collapse.certain
        assert collapse.matched <= collapse.loose
    assert certain <= 1


def test_of_few_patients_nothing_is_certain() -> None:
    collection = of_few_patients(2, classes=2)
    vectors = np.eye(4)[np.arange(20) // 5]

    (collapse,) = judged(vectors, collection).collapses

    assert collapse.loose == 1.0
    assert collapse.due is not None
    assert not collapse.certain
    assert not collapse.better_than_chance


def test_k_needn_t_hold_1() -> None:
    collection = patients()
    contender = Contender("x", random_vectors(len(collection), 0))
    (collapse,) = evaluate(PROTOCOLS["folder"], collection, [contender], ks=(5,)).collapses
    assert 0 < collapse.strict < 1


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
