"""How good answers are: one specification of every metric.

For a query q, rel(i) is 1 where its i-th neighbour is of its class and 0 where it is not or is
missing, P(i) = (1/i) Σ rel(j) for j = 1 … i, and R is how many images of its class it may find:
those in the gallery that are not left out.

| metric                | of a query                                     | over queries            |
|-----------------------|------------------------------------------------|-------------------------|
| `R@k`                 | 1 if any rel(i) = 1 for i ≤ k                  | mean                    |
| `P@k`                 | P(k)                                           | mean                    |
| `MRR`                 | 1/i of the first rel(i) = 1 of all that were   | mean                    |
|                       | asked for, else 0                              |                         |
| `mAP@k`               | Σ P(i)·rel(i) for i ≤ k, over min(k, R)        | mean where R > 0        |
| `mAP@R`               | Σ P(i)·rel(i) for i ≤ R, over R                | mean where R > 0        |
| `mMV@k`               | 1 if the majority of the first k is of its     | mean                    |
|                       | class; `votes.majority`: ties, missing ones    |                         |
| `macro F1@k`          | by that majority: 2 TP / (2 TP + FP + FN)      | mean over their classes |
| `balanced accuracy@k` | by that majority: TP / (TP + FN)               | mean over their classes |
| `eta_p`               | rel(1)                                         | mean                    |
| `eta_W`               | rel(1)                                         | mean of classes' means  |
| `eta_total`           |                                                | eta_p · eta_W           |

A query that has nothing to find (R = 0) is `unanswerable`. Wherever it has a value it counts, and
that value is 0; its average precision is 0/0, so it has none and both mAP are over the others, as
in trec_eval. A missing neighbour is a wrong one.

Sources. R@k: Jun et al., "Combination of Multiple Global Descriptors", arXiv 1903.10663. mAP@R:
Musgrave et al., "A Metric Learning Reality Check", arXiv 2003.08505. mMV@k: Kalra et al.,
"Yottixel", arXiv 1911.08748. η: Babaie et al., "Kimia Path24", arXiv 1705.07522, where a class is a
scan; their published script divides by the column sums of the confusion matrix, which gives
precision, where the paper and we divide by the row sums. Of mAP@k three definitions are in
circulation: see `map_at_k_variants`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from microtome.config import check_whole
from microtome.errors import EvaluationError, NothingToFind
from microtome.evaluation.average_precision import average_precision, precision_sums
from microtome.evaluation.left_out import findable
from microtome.evaluation.neighbours import MISSING, Neighbours
from microtome.evaluation.votes import NO_CLASS, majority

KS: Final = (1, 2, 4, 5, 8, 10)


@dataclass(frozen=True, slots=True)
class Scores:
    """What answers are worth, over all queries and of each.

    Attributes:
        values: the metrics of the module's docstring by name, each from 0 to 1.
        per_query: of those that are a mean over queries: (Q,) float64, NaN where it has none.
        labels: (Q,) int64, the queries' classes.
        predicted: for each k, (Q,) int64, the class of the majority; `NO_CLASS` where none is
            certain.
        to_find: (Q,) int64, R.
        depth: how many neighbours were asked for, which MRR looks at.
        notes: what a reader of the figures must know, one sentence each.
    """

    values: Mapping[str, float]
    per_query: Mapping[str, NDArray[np.float64]]
    labels: NDArray[np.int64]
    predicted: Mapping[int, NDArray[np.int64]]
    to_find: NDArray[np.int64]
    depth: int
    notes: tuple[str, ...] = ()

    @property
    def queries(self) -> int:
        """How many were asked."""
        return len(self.labels)

    @property
    def unanswerable(self) -> int:
        """Queries that had nothing of their class to find."""
        return int((self.to_find == 0).sum())

    def confusion(self, k: int, classes: int) -> NDArray[np.int64]:
        """(C, C + 1) queries by their class and that of the majority; the last column is no class.

        Args:
            k: neighbours that vote; one of those that were judged.
            classes: C, how many there are; a majority may be of a class that no query has.
        """
        counts = np.zeros((classes, classes + 1), dtype=np.int64)
        np.add.at(counts, (self.labels, self.predicted[k]), 1)  # NO_CLASS is −1: the last column
        return counts

    def to_json(self) -> dict[str, Any]:
        """The metrics and what they were taken over, ready for `json.dumps`."""
        return {
            "metrics": dict(self.values),
            "queries": self.queries,
            "answerable": self.queries - self.unanswerable,
            "unanswerable": self.unanswerable,
            "depth": self.depth,
            "notes": list(self.notes),
        }


def judge(
    neighbours: Neighbours,
    query_labels: NDArray[np.int64],
    gallery_labels: NDArray[np.int64],
    ks: Sequence[int] = KS,
    *,
    at_r: NDArray[np.float64] | None = None,
) -> Scores:
    """Every metric of what was found.

    Args:
        neighbours: what each query found, at least as many as the largest k; MRR looks at all.
        query_labels: (Q,) class of each query, from 0.
        gallery_labels: (G,) class of each image of the gallery.
        ks: how many neighbours the metrics look at.
        at_r: (Q,) average precision at R, which wants more neighbours than `neighbours` holds:
            `judging.judge_vectors` gives it. Without it, mAP@R is given where there are enough.

    Raises:
        NothingToFind: there are no queries, or none has anything of its class to find.
        EvaluationError: labels for another number of images, negative ones, or too few neighbours.
    """
    _check(neighbours, query_labels, gallery_labels, ks)
    to_find = findable(query_labels, gallery_labels, neighbours.left_out)
    if not to_find.any():
        raise NothingToFind(
            f"none of the {len(query_labels):,} queries has an image of its class to find",
            remedy="Each class needs images on both sides, or of two groups.",
        )
    found = found_labels(neighbours, gallery_labels)
    right = found == query_labels[:, None]
    predicted = {k: majority(found[:, :k]) for k in ks}
    per_query = _of_each(right, to_find, ks)
    if at_r is None and neighbours.depth >= to_find.max():
        at_r = average_precision(right, to_find, to_find)
    if at_r is not None:
        per_query["mAP@R"] = at_r
    per_query |= {f"mMV@{k}": 1.0 * (predicted[k] == query_labels) for k in ks}
    values = {name: float(np.nanmean(each)) for name, each in per_query.items()}
    for k in ks:
        values |= _of_classes(query_labels, predicted[k], k)
    right_first = np.bincount(query_labels, weights=right[:, 0])
    values["eta_W"] = float(balanced_accuracy(np.bincount(query_labels), right_first))
    values["eta_total"] = values["eta_p"] * values["eta_W"]
    notes = _notes(neighbours, to_find, ks)
    return Scores(values, per_query, query_labels, predicted, to_find, neighbours.depth, notes)


def found_labels(neighbours: Neighbours, gallery_labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """(Q, k) the classes of what was found; `NO_CLASS` where missing."""
    padded = np.append(gallery_labels, NO_CLASS)  # a missing one is at −1: the last
    labels: NDArray[np.int64] = padded[neighbours.places]
    return labels


def map_at_k_variants(
    neighbours: Neighbours,
    query_labels: NDArray[np.int64],
    gallery_labels: NDArray[np.int64],
    k: int,
) -> dict[str, float]:
    """The three mAP@k in circulation, which can't be compared with one another.

    All sum P(i)·rel(i) over i ≤ k. They divide

    - `standard`: by min(k, R), over the queries that have something to find;
    - `over k`: by k, whatever there is to find (SISH's `eval.py`, where it is 5 even of 10): a
      class of three can't reach 1;
    - `over found`: by how many of the k are right (PathologySearchComparison): one right answer at
      the top and four wrong ones give 1.
    """
    _check(neighbours, query_labels, gallery_labels, [k])
    right = found_labels(neighbours, gallery_labels) == query_labels[:, None]
    to_find = findable(query_labels, gallery_labels, neighbours.left_out)
    sums = precision_sums(right, k)
    standard = average_precision(right, to_find, k)
    return {
        "standard": float(np.nanmean(standard)) if to_find.any() else 0.0,
        "over k": float(np.mean(sums / k)),
        "over found": float(np.mean(sums / np.maximum(1, right[:, :k].sum(axis=1)))),
    }


def _of_each(
    right: NDArray[np.bool_], to_find: NDArray[np.int64], ks: Sequence[int]
) -> dict[str, NDArray[np.float64]]:
    """What each query's neighbours are worth, from (Q, K) rel(i)."""
    first = np.where(right.any(axis=1), 1 / (1 + right.argmax(axis=1)), 0.0)
    recall = {f"R@{k}": 1.0 * right[:, :k].any(axis=1) for k in ks}
    precision = {f"P@{k}": right[:, :k].mean(axis=1) for k in ks}
    average = {f"mAP@{k}": average_precision(right, to_find, k) for k in ks}
    return recall | precision | {"MRR": first} | average | {"eta_p": 1.0 * right[:, 0]}


def macro_f1(asked: NDArray[Any], given: NDArray[Any], right: NDArray[Any]) -> NDArray[np.float64]:
    """(...,) the mean of 2 TP / (2 TP + FP + FN) over the classes that queries are of.

    Args:
        asked: (..., C) queries of each class, TP + FN.
        given: (..., C) queries that were given each class, TP + FP.
        right: (..., C) those of them that are of it, TP.
    """
    return _mean_of_classes(2 * right, asked + given, asked)


def balanced_accuracy(asked: NDArray[Any], right: NDArray[Any]) -> NDArray[np.float64]:
    """(...,) the mean of TP / (TP + FN) over the classes that queries are of; see `macro_f1`."""
    return _mean_of_classes(right, asked, asked)


def _mean_of_classes(
    above: NDArray[Any], below: NDArray[Any], asked: NDArray[Any]
) -> NDArray[np.float64]:
    shares = np.divide(above, below, out=np.zeros(np.shape(above)), where=asked > 0)
    means: NDArray[np.float64] = shares.sum(axis=-1) / (asked > 0).sum(axis=-1)
    return means


def _of_classes(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], k: int
) -> dict[str, float]:
    """What the majority's classes are worth."""
    classes = 1 + max(labels.max(), predicted.max())
    asked = np.bincount(labels, minlength=classes)
    given = np.bincount(predicted[predicted != NO_CLASS], minlength=classes)
    right = np.bincount(labels[labels == predicted], minlength=classes)
    return {
        f"macro F1@{k}": float(macro_f1(asked, given, right)),
        f"balanced accuracy@{k}": float(balanced_accuracy(asked, right)),
    }


def _check(
    neighbours: Neighbours,
    query_labels: NDArray[np.int64],
    gallery_labels: NDArray[np.int64],
    ks: Sequence[int],
) -> None:
    for k in ks:
        check_whole("k", k, least=1)
        if k > neighbours.depth:
            raise EvaluationError(
                f"k is {k}, but only {neighbours.depth} neighbours were looked for"
            )
    if len(query_labels) != len(neighbours.places):
        raise EvaluationError(
            f"{len(query_labels):,} labels for the neighbours of {len(neighbours.places):,} queries"
        )
    if neighbours.places.max(initial=MISSING) >= len(gallery_labels):
        raise EvaluationError(
            f"the gallery has more images than its {len(gallery_labels):,} labels"
        )
    if min(query_labels.min(initial=0), gallery_labels.min(initial=0)) < 0:
        raise EvaluationError("a label is negative; labels are indices of classes, from 0")


def _notes(
    neighbours: Neighbours, to_find: NDArray[np.int64], ks: Sequence[int]
) -> tuple[str, ...]:
    notes = []
    if alone := int((to_find == 0).sum()):
        notes.append(
            f"{alone:,} of {len(to_find):,} queries have no image of their class to find: they "
            "count as wrong, and in mAP not at all"
        )
    if short := int((neighbours.places[:, : max(ks)] == MISSING).any(axis=1).sum()):
        notes.append(
            f"{short:,} of {len(to_find):,} queries may find fewer than {max(ks)} images: each "
            "missing one counts as wrong"
        )
    return tuple(notes)
