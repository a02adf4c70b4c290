"""How far a figure might be off: the bootstrap, by case.

Images of one patient resemble one another, so drawing images anew would promise more than there is:
whole groups are drawn, as many as there are, with replacement, and the figure is taken again
(Davison & Hinkley, "Bootstrap Methods and their Application", section 3.8). The interval holds the
middle 95 % of a thousand such figures. It says how much they depend on who happened to be asked
about; not on what the gallery holds, nor on the seed of a training.

From few groups it is too narrow: meant to hold the truth 95 times in 100, from 10 groups it held it
90 times, from 5 87, from 2 55. Below `FEW` that is said, below `LEAST` nothing is called certain.
Where all n groups are alike every draw is, too, though the next group may well differ: there the
interval is that of Clopper and Pearson for none of n being otherwise, which allows a share of
s = 1 − 0.025^(1/n), and whoever is otherwise may be worth anything (Hanley & Lippman-Hand, "If
nothing goes wrong, is everything all right?", JAMA 1983: 3/n, one-sided).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from microtome.errors import EvaluationError
from microtome.evaluation.left_out import group_numbers
from microtome.evaluation.metrics import Scores, balanced_accuracy, macro_f1
from microtome.evaluation.votes import NO_CLASS

REPLICATES: Final = 1000
MIDDLE: Final = (0.025, 0.975)
FEW: Final = 20
"""From fewer groups or queries an interval is too narrow."""

LEAST: Final = 5
"""From fewer nothing is certain."""

_SHARES: Final = (0.0, 1.0)
_DRAWN_AT_ONCE: Final = 1 << 22


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a figure lies with 95 % confidence.

    Attributes:
        low: lower end.
        high: upper end.
        drawn: how many groups, or queries, were drawn from.
        by: what was drawn: `group`, or `query` where no query has a group. Queries then count as
            independent, which images of one patient aren't: the interval is too narrow for them.
    """

    low: float
    high: float
    drawn: int
    by: Literal["group", "query"]

    def to_json(self) -> dict[str, Any]:
        """The attributes by name, ready for `json.dumps`."""
        return asdict(self)


def bootstrap(
    per_query: NDArray[np.float64],
    groups: Sequence[str | None] | None = None,
    seed: int = 0,
    *,
    bounds: tuple[float, float] = _SHARES,
) -> Interval | None:
    """The interval of a mean over queries.

    Args:
        per_query: (Q,) what each query is worth; NaN doesn't count.
        groups: case of each; a None is a case of its own. Without any, queries are drawn.
        seed: of the draws.
        bounds: least and most that a query can be worth, for groups that are all alike.

    Returns:
        None where there are fewer than two groups to draw from: nothing can be said then.

    Raises:
        EvaluationError: groups for another number of queries.
    """
    clusters = _Clusters.of(groups, len(per_query)).of_those(~np.isnan(per_query))
    table = clusters.mean_table(per_query[~np.isnan(per_query)])
    return clusters.interval([_mean(times @ table) for times in clusters.draws(seed)], bounds)


def intervals(
    scores: Scores, groups: Sequence[str | None] | None = None, seed: int = 0
) -> dict[str, Interval]:
    """The interval of each of the scores' values, all from the same draws.

    Args:
        scores: what answers are worth.
        groups: case of each query; see `bootstrap`.
        seed: of the draws.

    Returns:
        By metric; nothing where there are fewer than two groups to draw from.

    Raises:
        EvaluationError: groups for another number of queries.
    """
    clusters = _Clusters.of(groups, scores.queries)
    means = {name: clusters.mean_table(each) for name, each in scores.per_query.items()}
    classes = _class_tables(scores, clusters)
    drawn = []
    for times in clusters.draws(seed):
        values = {name: _mean(times @ table) for name, table in means.items()}
        counts = {name: times @ table for name, table in classes.items()}
        drawn.append(values | _class_values(counts, values["eta_p"], scores.predicted))
    found = {name: clusters.interval([each[name] for each in drawn]) for name in scores.values}
    return {name: interval for name, interval in found.items() if interval is not None}


def _class_tables(scores: Scores, clusters: _Clusters) -> dict[str, Any]:
    """What the metrics of classes are made of: (clusters, classes) counts by name."""
    labels = scores.labels
    classes = 1 + max(int(each.max()) for each in (labels, *scores.predicted.values()))
    right_first = np.where(scores.per_query["eta_p"] == 1, labels, NO_CLASS)
    columns = {"asked": labels, "right first": right_first}
    for k, given in scores.predicted.items():
        columns[f"given@{k}"] = given
        columns[f"right@{k}"] = np.where(given == labels, labels, NO_CLASS)
    return {name: clusters.class_table(column, classes) for name, column in columns.items()}


def _class_values(
    counts: Mapping[str, NDArray[np.float64]], eta_p: NDArray[np.float64], ks: Iterable[int]
) -> dict[str, NDArray[np.float64]]:
    """(n,) the metrics that are taken over classes, from (n, classes) counts."""
    asked = counts["asked"]
    values = {"eta_W": balanced_accuracy(asked, counts["right first"])}
    values["eta_total"] = eta_p * values["eta_W"]
    for k in ks:
        right = counts[f"right@{k}"]
        values[f"macro F1@{k}"] = macro_f1(asked, counts[f"given@{k}"], right)
        values[f"balanced accuracy@{k}"] = balanced_accuracy(asked, right)
    return values


@dataclass(frozen=True, slots=True)
class _Clusters:
    """Which queries are drawn together.

    Attributes:
        number: (Q,) each query's cluster.
        drawn: how many there are.
        by: what they are.
    """

    number: NDArray[np.int64]
    drawn: int
    by: Literal["group", "query"]

    @classmethod
    def of(cls, groups: Sequence[str | None] | None, queries: int) -> Self:
        if groups is None or all(group is None for group in groups):
            return cls(np.arange(queries), queries, "query")
        if len(groups) != queries:
            raise EvaluationError(f"{len(groups):,} groups for {queries:,} queries")
        names, number = np.unique(group_numbers(groups), return_inverse=True)
        return cls(number, len(names), "group")

    def of_those(self, chosen: NDArray[np.bool_]) -> Self:
        """Of some queries; clusters without any of them are none."""
        left, number = np.unique(self.number[chosen], return_inverse=True)
        return replace(self, number=number, drawn=len(left))

    def draws(self, seed: int) -> Iterator[NDArray[np.float64]]:
        """(n, clusters) how often each was drawn, in parts, `REPLICATES` rows in all."""
        random = np.random.default_rng(seed)
        at_once = max(1, _DRAWN_AT_ONCE // max(1, self.drawn))
        for start in range(0, REPLICATES, at_once):
            rows = min(at_once, REPLICATES - start)
            places = random.integers(0, self.drawn, (rows, self.drawn))
            places += self.drawn * np.arange(rows)[:, None]
            counts = np.bincount(places.ravel(), minlength=rows * self.drawn)
            yield counts.reshape(rows, self.drawn).astype(np.float64)

    def mean_table(self, each: NDArray[np.float64]) -> NDArray[np.float64]:
        """(clusters, 2) sum and number of what each query is worth; NaN doesn't count."""
        there = ~np.isnan(each)
        sums, counts = (
            np.bincount(self.number, weights, self.drawn)
            for weights in (np.where(there, each, 0), there)
        )
        return np.column_stack([sums, counts])

    def class_table(self, labels: NDArray[np.int64], classes: int) -> Any:
        """(clusters, classes) sparse: how many queries of each are of each class."""
        there = labels != NO_CLASS
        ones = np.ones(int(there.sum()))
        where = (self.number[there], labels[there])
        return csr_array((ones, where), shape=(self.drawn, classes))

    def interval(
        self, values: Sequence[NDArray[np.float64]], bounds: tuple[float, float] = _SHARES
    ) -> Interval | None:
        """The middle of what came out; wider where it is always the same."""
        if self.drawn < 2:
            return None
        low, high = np.nanquantile(np.concatenate(values), MIDDLE)
        if low == high:
            otherwise = 1 - MIDDLE[0] ** (1 / self.drawn)
            low, high = (
                end + otherwise * (bound - end)
                for end, bound in zip((low, high), bounds, strict=True)
            )
        return Interval(float(low), float(high), self.drawn, self.by)


def _mean(sums_and_counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) from (n, 2); NaN where nothing that counts was drawn."""
    sums, counts = sums_and_counts.T
    means = np.full(len(sums), np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means
