"""Every metric of retrieval once more: slow loops over lists that anyone can read.

A query is what it found (class of each neighbour, None where one is missing), its own class, and R,
how many of that class it could have found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product


@dataclass(frozen=True)
class Query:
    found: Sequence[int | None]
    label: int
    to_find: int

    def right(self, rank: int) -> bool:
        return self.found[rank - 1] == self.label

    def precision(self, rank: int) -> float:
        return sum(self.right(i) for i in range(1, rank + 1)) / rank

    def precisions(self, k: int) -> float:
        return sum(self.precision(i) for i in range(1, k + 1) if self.right(i))


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def recall(queries: Sequence[Query], k: int) -> float:
    return mean([any(query.right(i) for i in range(1, k + 1)) for query in queries])


def precision(queries: Sequence[Query], k: int) -> float:
    return mean([query.precision(k) for query in queries])


def mrr(queries: Sequence[Query]) -> float:
    return mean([reciprocal_rank(query) for query in queries])


def reciprocal_rank(query: Query) -> float:
    for rank in range(1, len(query.found) + 1):
        if query.right(rank):
            return 1 / rank
    return 0.0


def map_at_k(queries: Sequence[Query], k: int) -> float:
    return mean([q.precisions(k) / min(k, q.to_find) for q in queries if q.to_find])


def map_at_r(queries: Sequence[Query]) -> float:
    return mean([q.precisions(q.to_find) / q.to_find for q in queries if q.to_find])


def most_common(found: Sequence[int]) -> int:
    """The class found most often, of equally many the one found first."""
    return max(dict.fromkeys(found), key=found.count)  # max keeps the first of equals


def majority(found: Sequence[int | None]) -> int | None:
    """The class that wins whatever the missing ones are; None if that hangs on them."""
    anything = {one for one in found if one is not None} | {-2}
    winners = {
        most_common(filled)
        for filled in product(*([one] if one is not None else anything for one in found))
    }
    return winners.pop() if len(winners) == 1 and winners != {-2} else None


def majority_vote(queries: Sequence[Query], k: int) -> float:
    return mean([majority(query.found[:k]) == query.label for query in queries])


def macro_f1(queries: Sequence[Query], k: int) -> float:
    pairs = [(query.label, majority(query.found[:k])) for query in queries]
    values = []
    for one in {label for label, _ in pairs}:
        tp = sum(label == given == one for label, given in pairs)
        fp = sum(given == one != label for label, given in pairs)
        fn = sum(label == one != given for label, given in pairs)
        values.append(2 * tp / (2 * tp + fp + fn))
    return mean(values)


def balanced_accuracy(queries: Sequence[Query], k: int) -> float:
    return mean([majority_vote(of_class, k) for of_class in by_class(queries)])


def eta_p(queries: Sequence[Query]) -> float:
    return sum(query.right(1) for query in queries) / len(queries)


def eta_w(queries: Sequence[Query]) -> float:
    return mean([eta_p(of_class) for of_class in by_class(queries)])


def by_class(queries: Sequence[Query]) -> list[list[Query]]:
    labels = {query.label for query in queries}
    return [[query for query in queries if query.label == label] for label in labels]


def everything(queries: Sequence[Query], ks: Sequence[int]) -> dict[str, float]:
    """All of them by name, but for mAP@R, which wants R neighbours."""
    values = {"MRR": mrr(queries), "eta_p": eta_p(queries), "eta_W": eta_w(queries)}
    values["eta_total"] = values["eta_p"] * values["eta_W"]
    for k in ks:
        values |= {
            f"R@{k}": recall(queries, k),
            f"P@{k}": precision(queries, k),
            f"mAP@{k}": map_at_k(queries, k),
            f"mMV@{k}": majority_vote(queries, k),
            f"macro F1@{k}": macro_f1(queries, k),
            f"balanced accuracy@{k}": balanced_accuracy(queries, k),
        }
    return values
