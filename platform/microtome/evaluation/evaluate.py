"""A set under a protocol: every contender asked alike, judged alike, and what hides in it said.

collection → arms → for each contender: neighbours, metrics, intervals → collapse between the arms
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microtome.errors import VectorsInvalid
from microtome.evaluation.arms import Arm
from microtome.evaluation.chance import recall_by_chance
from microtome.evaluation.collapse import Answered, Collapse, collapse_between
from microtome.evaluation.collection import Collection, Places
from microtome.evaluation.intervals import Interval, intervals
from microtome.evaluation.judging import Labelled, judge_vectors
from microtome.evaluation.leakage import Leakage, Side, check
from microtome.evaluation.matched import matched_recall
from microtome.evaluation.metrics import KS, Scores
from microtome.evaluation.neighbours import Neighbours
from microtome.evaluation.planning import check_ks, findable_in, left_out_of, planned
from microtome.evaluation.protocols import Protocol
from microtome.evaluation.remarks import remarks

Track = Callable[[str, int], Callable[[int], object]]
"""Is told what begins and how much of it there is, and gives what to tell each advance."""


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
        chances = recall_by_chance(*findable_in(self.collection, arm), ks)
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
    track: Track = lambda *_: int,
) -> Evaluation:
    """Judge contenders.

    Args:
        protocol: who asks whom.
        collection: the labelled things.
        contenders: vectors of all of them; one at least.
        ks: how many neighbours the metrics look at.
        seed: of folds and draws.
        track: is told how many queries of each contender were answered.

    Raises:
        SettingError: see `planned` and `check_ks`.
        NothingToFind: no query has anything that could be found.
        VectorsInvalid: vectors of another number of things, or that aren't finite.
    """
    check_ks(ks)
    arms = planned(protocol, collection, seed)
    _check_numbers(collection, contenders)
    outcomes = [
        _outcome(collection, one, arm, ks, seed, track(f"{one.name}, {arm.name}", len(arm.queries)))
        for one in contenders
        for arm in arms
    ]
    pairs = zip(outcomes[::2], outcomes[1::2], strict=True) if len(arms) == 2 else ()
    return Evaluation(
        protocol,
        collection,
        arms,
        tuple(outcomes),
        tuple(_chance(collection, arm, ks) for arm in arms),
        tuple(_leakage(collection, outcome) for outcome in outcomes[: len(arms)]),
        tuple(_collapse(collection, *pair, seed) for pair in pairs),
        tuple(ks),
        seed,
        (*collection.notes, *remarks(protocol, collection)),
    )


def _outcome(
    collection: Collection,
    contender: Contender,
    arm: Arm,
    ks: Sequence[int],
    seed: int,
    advance: Callable[[int], object],
) -> Outcome:
    queries, gallery = (
        Labelled(_rows(contender.vectors, side), collection.labels[side])
        for side in (arm.queries, arm.gallery)
    )
    judged = judge_vectors(queries, gallery, ks, left_out=left_out_of(arm), advance=advance)
    groups = [collection.groups[place] for place in arm.queries.tolist()]
    drawn = intervals(judged.scores, groups, seed)
    return Outcome(contender, arm, judged.neighbours, judged.scores, drawn)


def _rows(vectors: NDArray[np.float32], side: Places) -> NDArray[np.float32]:
    """The vectors of one side; the very array where that is everybody, who may be millions."""
    everybody = len(side) == len(vectors)  # sides name each but once, in order
    return vectors if everybody else vectors[side]


def _chance(collection: Collection, arm: Arm, ks: Sequence[int]) -> dict[str, float]:
    return recall_by_chance(*findable_in(collection, arm), ks)


def _leakage(collection: Collection, outcome: Outcome) -> Leakage:
    arm, contender = outcome.arm, outcome.contender
    grouped = any(group is not None for group in collection.groups)
    queries, gallery = (
        Side(
            [collection.names[place] for place in side.tolist()],
            [collection.groups[place] for place in side.tolist()] if grouped else None,
            contender.hashes and [contender.hashes[place] for place in side.tolist()],
            _rows(contender.vectors, side),
        )
        for side in (arm.queries, arm.gallery)
    )
    return check(queries, gallery, left_out=left_out_of(arm), nearest=outcome.neighbours)


def _collapse(collection: Collection, loose: Outcome, strict: Outcome, seed: int) -> Collapse:
    """Of a collection whose images ask one another in both arms."""
    by_chance = [
        found / np.maximum(1, anything)
        for found, anything in (findable_in(collection, one.arm) for one in (loose, strict))
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
