"""A set under a protocol: every contender asked alike, judged alike, and what hides in it said.

collection → arms → for each contender: neighbours, metrics, intervals → collapse between the arms
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from microtome.errors import NothingToFind, VectorsInvalid
from microtome.evaluation.arms import Arm
from microtome.evaluation.chance import recall_by_chance
from microtome.evaluation.collapse import Answered, Collapse, collapse_between
from microtome.evaluation.collection import Collection
from microtome.evaluation.intervals import Interval, intervals
from microtome.evaluation.judging import Labelled, judge_vectors
from microtome.evaluation.leakage import Leakage, Side, check
from microtome.evaluation.left_out import LeftOut, findable
from microtome.evaluation.matched import matched_recall
from microtome.evaluation.metrics import KS, Scores
from microtome.evaluation.neighbours import Neighbours
from microtome.evaluation.protocols import Protocol, can_leave_groups

SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Contender:
    """Vectors that are judged.

    Attributes:
        name: in tables; never a path of a machine.
        vectors: (N, D) float32, one for each thing of the collection.
        model_id: of the model; empty where it is none of ours.
        about: what it is, for who reads the result.
        hashes: of each thing's pixels; None where no pixels were seen.
        peer: whether it stands there only to be beaten.
    """

    name: str
    vectors: NDArray[np.float32]
    model_id: str = ""
    about: str = ""
    hashes: tuple[str, ...] | None = None
    peer: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one contender scores in one arm.

    Attributes:
        contender: who.
        arm: who asked whom.
        neighbours: what was found; places are rows of the arm's gallery.
        scores: every metric.
        intervals: 95 %, by metric; none where there is nothing to draw from.
    """

    contender: Contender
    arm: Arm
    neighbours: Neighbours
    scores: Scores
    intervals: dict[str, Interval]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that was found out about a collection.

    Attributes:
        protocol: what was done.
        collection: with whom.
        arms: who asked whom; the last is the one to believe.
        outcomes: of each contender, arm by arm.
        chance: `R@k` of a random order, for each arm.
        leaks: what of the answers was known beforehand, for each arm; near copies by the vectors of
            the first contender.
        collapses: what leaving groups out takes away, for each contender; empty with one arm.
        ks: how many neighbours the metrics look at.
        seed: of folds, draws and random vectors.
        notes: what whoever reads it must know.
    """

    protocol: Protocol
    collection: Collection
    arms: tuple[Arm, ...]
    outcomes: tuple[Outcome, ...]
    chance: tuple[dict[str, float], ...]
    leaks: tuple[Leakage, ...]
    collapses: tuple[Collapse, ...]
    ks: tuple[int, ...]
    seed: int
    notes: tuple[str, ...]

    @property
    def contenders(self) -> tuple[Contender, ...]:
        """Who was judged, in order."""
        return tuple(one.contender for one in self.of_arm(self.arms[0]))

    def chance_curve(self, arm: Arm, most: int) -> NDArray[np.float64]:
        """(most,) R@k of a random order for k = 1 … most."""
        ks = range(1, most + 1)
        chances = recall_by_chance(*_counts(self.collection, arm), ks)
        return np.array([chances[f"R@{k}"] for k in ks])

    def of_arm(self, arm: Arm) -> list[Outcome]:
        """What every contender scores in one arm."""
        return [outcome for outcome in self.outcomes if outcome.arm is arm]


def evaluate(
    protocol: Protocol,
    collection: Collection,
    contenders: Sequence[Contender],
    *,
    ks: Sequence[int] = KS,
    seed: int = 0,
) -> Evaluation:
    """Judge contenders.

    Args:
        protocol: who asks whom.
        collection: the labelled things.
        contenders: vectors of all of them; one at least.
        ks: how many neighbours the metrics look at.
        seed: of folds and draws.

    Raises:
        SettingError: the collection lacks a split, or k is no whole number from 1.
        NothingToFind: no query has anything that could be found.
        VectorsInvalid: vectors of another number of things, or that aren't finite.
    """
    _check_numbers(collection, contenders)
    arms = protocol.arms(collection, seed)
    for arm in arms:
        _check_findable(collection, arm)
    outcomes = [_outcome(collection, one, arm, ks, seed) for one in contenders for arm in arms]
    pairs = zip(outcomes[::2], outcomes[1::2], strict=True) if len(arms) == 2 else ()
    return Evaluation(
        protocol,
        collection,
        arms,
        tuple(outcomes),
        tuple(_chance(collection, arm, ks) for arm in arms),
        tuple(_leakage(collection, arm, contenders[0]) for arm in arms),
        tuple(_collapse(collection, *pair, seed) for pair in pairs),
        tuple(ks),
        seed,
        (*collection.notes, *_notes(protocol, collection)),
    )


def left_out_of(arm: Arm) -> LeftOut | None:
    """What the queries of an arm may not find."""
    if arm.apart is None:
        return None
    return LeftOut(arm.apart[arm.queries], arm.apart[arm.gallery])


def _outcome(
    collection: Collection, contender: Contender, arm: Arm, ks: Sequence[int], seed: int
) -> Outcome:
    queries, gallery = (
        Labelled(contender.vectors[side], collection.labels[side])
        for side in (arm.queries, arm.gallery)
    )
    judged = judge_vectors(queries, gallery, ks, left_out=left_out_of(arm))
    groups = [collection.groups[place] for place in arm.queries.tolist()]
    drawn = intervals(judged.scores, groups, seed)
    return Outcome(contender, arm, judged.neighbours, judged.scores, drawn)


def _counts(collection: Collection, arm: Arm) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(Q,) each: how many of its class a query may find, and how many at all."""
    left_out = left_out_of(arm)
    asked, found = collection.labels[arm.queries], collection.labels[arm.gallery]
    anything = findable(np.zeros_like(asked), np.zeros_like(found), left_out)
    return findable(asked, found, left_out), anything


def _chance(collection: Collection, arm: Arm, ks: Sequence[int]) -> dict[str, float]:
    return recall_by_chance(*_counts(collection, arm), ks)


def _leakage(collection: Collection, arm: Arm, contender: Contender) -> Leakage:
    grouped = any(group is not None for group in collection.groups)
    queries, gallery = (
        Side(
            [collection.names[place] for place in side.tolist()],
            [collection.groups[place] for place in side.tolist()] if grouped else None,
            contender.hashes and [contender.hashes[place] for place in side.tolist()],
            contender.vectors[side],
        )
        for side in (arm.queries, arm.gallery)
    )
    return check(queries, gallery, left_out=left_out_of(arm))


def _collapse(collection: Collection, loose: Outcome, strict: Outcome, seed: int) -> Collapse:
    """Of a collection whose images ask one another in both arms."""
    by_chance = [
        found / np.maximum(1, anything)
        for found, anything in (_counts(collection, one.arm) for one in (loose, strict))
    ]
    answered = Answered(
        loose.scores.per_query["eta_p"],  # R@1, which `ks` needn't hold
        strict.scores.per_query["eta_p"],
        matched_recall(loose.neighbours.places, collection.labels, collection.group_ids),
        (by_chance[0], by_chance[1]),
        strict.scores.to_find > 0,
        collection.groups,
    )
    group = collection.grouped_by or "group"
    return collapse_between(loose.contender.name, group, answered, seed)


def _check_numbers(collection: Collection, contenders: Sequence[Contender]) -> None:
    for one in contenders:
        if len(one.vectors) != len(collection):
            raise VectorsInvalid(
                f"{one.name} has {len(one.vectors):,} vectors for the {len(collection):,} of "
                f"{collection.name}"
            )


def _check_findable(collection: Collection, arm: Arm) -> None:
    if not _counts(collection, arm)[1].any():
        raise NothingToFind(
            f"{arm.name}: nothing is left to search: all {len(collection):,} of {collection.name} "
            f"are of one {collection.grouped_by or 'group'}",
            remedy="Bring a second one, or group by something finer with --group.",
        )


def _notes(protocol: Protocol, collection: Collection) -> list[str]:
    """What the make-up of a collection means for its figures."""
    notes = []
    sizes = np.bincount(collection.labels, minlength=len(collection.classes))
    if alone := [collection.classes[place] for place in np.flatnonzero(sizes == 1)]:
        more = f" and {len(alone) - SHOWN:,} more" if len(alone) > SHOWN else ""
        notes.append(
            f"only one image is of {', '.join(alone[:SHOWN])}{more}: it can't find its like, and "
            "no other can find it rightly"
        )
    if protocol.name in _BY_GROUP and not can_leave_groups(collection):
        notes.append(_cannot_leave(collection))
    return notes


_BY_GROUP: Final = frozenset({"folder", "crc", "atlas"})


def _cannot_leave(collection: Collection) -> str:
    who = (
        "nobody says"
        if collection.ungrouped == len(collection)
        else (f"for {collection.ungrouped:,} of {len(collection):,} images nobody says")
    )
    return (
        f"{who} which slide or patient an image is of, so leaving it out is impossible: how much "
        "of these figures is images of one patient finding each other can't be told; say it with "
        "--group COLUMN or --group PATTERN"
    )
