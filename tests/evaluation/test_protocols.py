"""Who asks whom: each protocol on a small set laid out as published."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from microtome.errors import NothingToFind, SettingError, VectorsInvalid
from microtome.evaluation.collection import Collection
from microtome.evaluation.contenders import Asked, gather
from microtome.evaluation.evaluate import Contender, Evaluation, evaluate
from microtome.evaluation.neighbours import nearest_in
from microtome.evaluation.peers import random_vectors
from microtome.evaluation.planning import left_out_of
from microtome.evaluation.protocols import PROTOCOLS, protocol_named
from microtome.evaluation.remarks import remarks
from microtome.evaluation.report import drawn_from, sentences
from microtome.evaluation.sources import read_images
from support.evaluated_sets import PUBLISHED

DRAWS = 20


Collected = Callable[[str], Collection]


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Collected:
    """The set that a protocol is tried on, by its name; each is written once."""

    @cache
    def collect(name: str) -> Collection:
        data = PUBLISHED[name](tmp_path_factory.mktemp(name))
        if name == "atlas":
            return gather(Asked(PROTOCOLS[name], data), lambda *_: int)[0]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
            return read_images(PROTOCOLS[name], data)

    return collect


def judged(name: str, collection: Collection, vectors: np.ndarray | None = None) -> Evaluation:
    given = random_vectors(len(collection), 0) if vectors is None else vectors
    return evaluate(PROTOCOLS[name], collection, [Contender("x", given)], ks=(1, 5))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_random_vectors_score_chance(name: str, collected: Collected) -> None:
    collection = collected(name)
    contenders = [
        Contender(str(seed), random_vectors(len(collection), seed)) for seed in range(DRAWS)
    ]

    found = evaluate(PROTOCOLS[name], collection, contenders, ks=(1, 5))

    for arm, chance in zip(found.arms, found.chance, strict=True):
        for metric, expected in chance.items():
            scored = [outcome.scores.values[metric] for outcome in found.of_arm(arm)]
            # 4 standard errors, with room for the lone value that a small set gives throughout.
            error = np.std(scored) / DRAWS**0.5
            assert np.mean(scored) == pytest.approx(expected, abs=4 * error + 1e-6), metric


# protocol, what no query may share with what it finds
@pytest.mark.parametrize(
    ("name", "kept_apart"),
    [
        ("pannuke", "splits"),
        ("crc", "groups"),
        ("folder", "groups"),
        ("atlas", "groups"),
        ("bach", "names"),
    ],
)
def test_what_is_left_out_is_never_found(name: str, kept_apart: str, collected: Collected) -> None:
    collection = collected(name)
    arm = PROTOCOLS[name].arms(collection, 0)[-1]
    vectors = np.ones((len(collection), 2), np.float32)  # all are as near as can be

    near = nearest_in(
        vectors[arm.gallery], vectors[arm.queries], len(collection), left_out=left_out_of(arm)
    )

    known = np.array(getattr(collection, kept_apart))
    for query, places in zip(arm.queries, near.places, strict=True):
        found = arm.gallery[places[places >= 0]]
        assert len(found)
        assert known[query] not in known[found]


@pytest.mark.parametrize("name", ["kimia24", "kimia24c", "bracs"])
def test_the_test_split_asks_the_training_split_alone(name: str, collected: Collected) -> None:
    collection = collected(name)
    (arm,) = PROTOCOLS[name].arms(collection, 0)
    assert {collection.splits[place] for place in arm.queries} == {"test"}
    assert {collection.splits[place] for place in arm.gallery} == {"train"}
    assert left_out_of(arm) is None


def test_bach_deals_every_class_evenly_into_five_folds(collected: Collected) -> None:
    collection = collected("bach")
    (arm,) = PROTOCOLS["bach"].arms(collection, 0)
    counts = np.zeros((5, 4), int)
    np.add.at(counts, (arm.apart, collection.labels), 1)
    assert counts.tolist() == [[3] * 4] * 5
    again, other = (PROTOCOLS["bach"].arms(collection, seed)[0].apart for seed in (0, 1))
    assert (arm.apart == again).all()
    assert (arm.apart != other).any()


def scans() -> Collection:
    """Two scans, of 4 and 2 test patches and one training patch each."""
    labels = np.array([0, 1, 0, 0, 0, 0, 1, 1])
    splits = ("train",) * 2 + ("test",) * 6
    names = tuple(str(place) for place in range(8))
    return Collection("scans", ("s0", "s1"), labels, (None,) * 8, splits, names)


def test_kimia_s_etas_are_those_of_the_formula() -> None:
    # Of scan 0 three of four patches are right, of scan 1 one of two.
    near = np.array([0, 1, 0, 0, 0, 1, 1, 0])
    vectors = np.eye(2, dtype=np.float32)[near]

    (outcome,) = judged("kimia24c", scans(), vectors).outcomes

    values = outcome.scores.values
    assert values["eta_p"] == pytest.approx(4 / 6)
    assert values["eta_W"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert values["eta_total"] == pytest.approx(4 / 6 * 5 / 8)
    assert values["R@1"] == values["eta_p"]


def test_a_folder_without_groups_says_that_leaving_out_is_impossible(collected: Collected) -> None:
    collection = collected("folder")
    nobody = Collection(
        "nobody", collection.classes, collection.labels, (None,) * len(collection),
        collection.splits, collection.names,
    )  # fmt: skip

    found = judged("folder", nobody)

    assert [arm.name for arm in found.arms] == ["leave one image out"]
    assert not found.collapses
    said = " ".join(sentences(found))
    assert "leaving it out is impossible" in said
    assert "--group" in said


def test_one_missing_group_is_enough_to_make_it_impossible(collected: Collected) -> None:
    collection = collected("crc")
    partly = Collection(
        "partly", collection.classes, collection.labels, (None, *collection.groups[1:]),
        collection.splits, collection.names,
    )  # fmt: skip

    found = judged("crc", partly)

    assert [arm.name for arm in found.arms] == ["leave one image out"]
    assert "for 1 of 48 images nobody says which slide or patient" in " ".join(sentences(found))


def collection_of(labels: list[int], groups: list[str | None]) -> Collection:
    count = len(labels)
    names = tuple(f"image {place}" for place in range(count))
    return Collection(
        "made", ("a", "b", "c"), np.array(labels), tuple(groups), ("all",) * count, names,
        grouped_by="patient",
    )  # fmt: skip


def test_a_label_of_one_member_is_named() -> None:
    found = judged("folder", collection_of([0, 0, 1, 1, 2], ["p", "q", "p", "q", "p"]))
    said = " ".join(sentences(found))
    assert "only one image is of c: it can't find its like" in said
    assert "1 of 5 queries have no image of their class to find" in said


def test_a_patient_who_is_everybody_leaves_nothing_to_search() -> None:
    with pytest.raises(NothingToFind, match="all 4 of made are of one patient"):
        judged("atlas", collection_of([0, 0, 1, 1], ["p"] * 4))


def test_a_k_larger_than_the_gallery_is_said_and_counts_as_missing() -> None:
    collection = collection_of([0, 0, 1, 1], ["p", "q", "p", "q"])
    contender = Contender("x", random_vectors(4, 0))
    found = evaluate(PROTOCOLS["folder"], collection, [contender], ks=(1, 50))
    assert "may find fewer than 50" in " ".join(sentences(found))
    assert found.outcomes[0].scores.values["P@50"] <= 1 / 50


@pytest.mark.parametrize(
    ("vectors", "problem"),
    [
        (np.ones((3, 2), np.float32), "3 vectors for the 4"),
        (np.full((4, 2), np.nan, np.float32), "NaN"),
    ],
)
def test_vectors_that_can_t_be_judged_are_refused(vectors: np.ndarray, problem: str) -> None:
    with pytest.raises(VectorsInvalid, match=problem):
        judged("folder", collection_of([0, 0, 1, 1], ["p", "q", "p", "q"]), vectors)


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ([f"p{i}" for i in range(40)], None),
        ([f"p{i % 10}" for i in range(40)], "an interval from 10 groups by patient is too narrow"),
        ([f"p{i % 4}" for i in range(40)], "nothing is certain"),
    ],
)
def test_an_interval_from_few_is_called_too_narrow(
    groups: list[str | None], said: str | None
) -> None:
    found = judged("folder", collection_of([i // 4 % 3 for i in range(40)], groups))
    notes = " ".join(sentences(found))
    assert said in notes if said else "too narrow" not in notes
    assert drawn_from(found, found.arms[0]) == f"drawn from {len(set(groups))} groups by patient"


def test_without_groups_it_is_said_that_queries_were_drawn() -> None:
    found = judged("folder", collection_of([0, 0, 1, 1], [None] * 4))
    assert "from 4 queries, as nobody says" in drawn_from(found, found.arms[0])


@pytest.mark.parametrize("name", ["kimia24", "kimia24c", "pannuke", "bracs", "bach", "crc"])
def test_a_part_of_a_published_set_is_said_to_be_one(name: str, collected: Collected) -> None:
    notes = " ".join(judged(name, collected(name)).notes)
    assert f"not the published figures of {name}" in notes


def test_a_set_of_the_published_size_is_taken_at_its_word() -> None:
    labels = np.arange(400) % 4
    collection = Collection(
        "mine", tuple("abcd"), labels, (None,) * 400, ("all",) * 400, tuple(map(str, labels))
    )
    assert remarks(PROTOCOLS["bach"], collection) == ()
    (note,) = remarks(PROTOCOLS["bach"], collection.take(np.flatnonzero(labels)))
    assert "images 300 of 400, classes 3 of 4" in note


@pytest.mark.parametrize("name", ["bach", "pannuke"])
def test_folds_by_image_take_no_groups(name: str) -> None:
    with pytest.raises(SettingError, match="takes no --group"):
        Asked(PROTOCOLS[name], vectors="v.npz", group="patient")


@pytest.mark.parametrize("given", [{"ks": (0,)}, {"ks": (1, 1001)}, {"seed": -1}, {"limit": 1}])
def test_numbers_that_are_none_are_refused_before_anything_is_read(given: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=r"k must be|seed must be|limit must be"):
        Asked(PROTOCOLS["folder"], "gone", **given)


def test_judging_tells_how_far_it_is() -> None:
    told: list[tuple[str, int, list[int]]] = []

    def track(name: str, total: int) -> Callable[[int], object]:
        told.append((name, total, []))
        return told[-1][2].append

    collection = collection_of([0, 0, 1, 1], ["p", "q", "p", "q"])
    evaluate(PROTOCOLS["folder"], collection, [Contender("x", random_vectors(4, 0))], track=track)

    assert [(name, total, sum(done)) for name, total, done in told] == [
        ("x, leave one image out", 4, 4),
        ("x, leave one patient out", 4, 4),
    ]


def test_unknown_names_and_missing_splits_are_settings() -> None:
    with pytest.raises(SettingError, match="no protocol 'kimia'"):
        protocol_named("kimia")
    collection = collection_of([0, 0, 1, 1], [None] * 4)
    with pytest.raises(SettingError, match="no split 'test', only all"):
        judged("bracs", collection)
    with pytest.raises(SettingError, match="holds one fold"):
        judged("pannuke", collection)
    with pytest.raises(SettingError, match="isn't for bach:x"):
        read_images(PROTOCOLS["crc"], "bach:x")
    with pytest.raises(SettingError, match="isn't for atlas:x#y"):
        read_images(PROTOCOLS["folder"], "atlas:x#y")


def test_any_published_set_takes_the_protocol_folder(tmp_path: Path) -> None:
    data = PUBLISHED["bach"](tmp_path)
    assert len(read_images(PROTOCOLS["folder"], f"bach:{data}")) == 60
