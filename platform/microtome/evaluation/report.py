"""An evaluation in words and figures: rows for a table, JSON for scripts, sentences for people."""

from __future__ import annotations

from typing import Any, Final

from microtome import __version__
from microtome.evaluation.arms import Arm
from microtome.evaluation.evaluate import Evaluation, Outcome
from microtome.evaluation.intervals import FEW, LEAST, Interval
from microtome.evaluation.metrics import map_at_k_variants

VARIANTS_K: Final = 5
DEFINITIONS: Final = {
    "R@k": "share of queries with an image of their class among the k nearest; R@1: the nearest is",
    "P@k": "share of the k nearest that are of the query's class, mean over queries",
    "MRR": "1 over the rank of the first right one among the depth that was looked at (100, or the "
    "largest k), else 0; mean over queries",
    "mAP@k": "Σ P(i)·rel(i) for i ≤ k, over min(k, R); R is how many of its class a query may find",
    "mAP@R": "the same for k = R: 1 where all R of the class come first",
    "mMV@k": "share of queries whose class most of the k nearest are of; the nearest breaks ties, "
    "a missing one counts against",
    "macro F1@k": "F1 of that vote, mean over classes",
    "balanced accuracy@k": "recall of that vote, mean over classes",
    "eta_p": "share of queries whose nearest is of their class (Kimia's η_p, the same as R@1)",
    "eta_W": "the mean of the classes' shares (η_W)",
    "eta_total": "η_p · η_W",
}
"""What each metric means; `metrics` has the formulae and their sources."""

INTERVAL: Final = (
    "95 % intervals: the middle of 1,000 draws, with replacement, of whole groups (slides or "
    "patients), or of single queries where nobody says who belongs together: too narrow then, and "
    "from few groups too; where all groups are alike, as Clopper and Pearson"
)


def table_rows(evaluation: Evaluation, arm: Arm) -> list[dict[str, Any]]:
    """One row a contender, figures in percent with intervals, and chance where it is known."""
    chance = evaluation.chance[evaluation.arms.index(arm)]
    metrics = table_metrics(evaluation)
    rows: list[dict[str, Any]] = [
        {"model": one.contender.name} | {name: _cell(one, name) for name in metrics}
        for one in evaluation.of_arm(arm)
    ]
    known = {name: chance.get(_same_as(name)) for name in metrics}
    floor = {name: f"{100 * one:.1f}" for name, one in known.items() if one is not None}
    return [*rows, {"model": "(chance)"} | floor]


def drawn_from(evaluation: Evaluation, arm: Arm) -> str:
    """What an arm's intervals were drawn from, in a few words; empty where there are none."""
    interval = _an_interval(evaluation.of_arm(arm)[0])
    if interval is None:
        return ""
    if interval.by == "query":
        return f"drawn from {interval.drawn:,} queries, as nobody says who belongs together"
    return f"drawn from {interval.drawn:,} groups{_by(evaluation)}"


def table_metrics(evaluation: Evaluation) -> list[str]:
    """The table's columns: the protocol's, of those that were taken."""
    taken = evaluation.outcomes[0].scores.values
    asked = [f"R@{k}" for k in evaluation.ks if f"R@{k}" in taken]
    return [name for name in evaluation.protocol.metrics if name in taken] or asked


def sentences(evaluation: Evaluation) -> list[str]:
    """What must be said beside the figures: collapse, leakage, then notes."""
    judged = [one.peer for one in evaluation.contenders]
    said = [
        one.sentence
        for one, peer in zip(evaluation.collapses, judged, strict=False)
        if not peer or all(judged)
    ]
    for arm, leaks in zip(evaluation.arms, evaluation.leaks, strict=True):
        said += [f"{arm.name}: {one}" for one in leaks.sentences()]
    for outcome in evaluation.outcomes[: len(evaluation.arms)]:  # it is the same for every model
        said += _too_narrow(evaluation, outcome)
        said += [f"{outcome.arm.name}: {one}" for one in outcome.scores.notes]
    return list(dict.fromkeys([*said, *evaluation.notes]))


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """All of it, ready for `json.dumps`; no path of a machine."""
    protocol = evaluation.protocol
    return {
        "microtome": __version__,
        "protocol": {"name": protocol.name, "definition": protocol.definition},
        "data": evaluation.collection.facts(),
        "seed": evaluation.seed,
        "definitions": dict(DEFINITIONS),
        "intervals": INTERVAL,
        "arms": [
            {
                "arm": arm.name,
                "about": arm.about,
                "queries": len(arm.queries),
                "gallery": len(arm.gallery),
                "chance": chance,
                "leakage": leaks.to_json() | {"vectors of": evaluation.contenders[0].name},
            }
            for arm, chance, leaks in zip(
                evaluation.arms, evaluation.chance, evaluation.leaks, strict=True
            )
        ],
        "results": [_facts(evaluation, outcome) for outcome in evaluation.outcomes],
        "collapse": [one.to_json() for one in evaluation.collapses],
        "notes": sentences(evaluation),
    }


def variants(evaluation: Evaluation, outcome: Outcome) -> dict[str, float]:
    """mAP@5 by the three definitions in circulation, so that a paper's figure can be placed."""
    labels = evaluation.collection.labels
    return map_at_k_variants(
        outcome.neighbours, labels[outcome.arm.queries], labels[outcome.arm.gallery], VARIANTS_K
    )


def _an_interval(outcome: Outcome) -> Interval | None:
    return next(iter(outcome.intervals.values()), None)


def _by(evaluation: Evaluation) -> str:
    by = evaluation.collection.grouped_by
    return f" by {by}" if by not in {"", "group"} else ""


def _too_narrow(evaluation: Evaluation, outcome: Outcome) -> list[str]:
    """What to say of intervals that promise too much."""
    interval = _an_interval(outcome)
    if interval is None:
        return [f"{outcome.arm.name}: of one group{_by(evaluation)} no interval can be drawn"]
    if interval.drawn >= FEW:
        return []
    what = "queries" if interval.by == "query" else f"groups{_by(evaluation)}"
    doubt = ", and nothing is certain" if interval.drawn < LEAST else ""
    return [
        f"{outcome.arm.name}: an interval from {interval.drawn:,} {what} is too narrow{doubt}: "
        f"from fewer than {FEW} it holds the truth less often than 95 times in 100"
    ]


def _facts(evaluation: Evaluation, outcome: Outcome) -> dict[str, Any]:
    contender, judged = outcome.contender, outcome.scores.to_json()
    intervals = {name: one.to_json() for name, one in outcome.intervals.items()}
    metrics = {
        name: {"value": value} | intervals.get(name, {})
        for name, value in judged.pop("metrics").items()
    }
    return {
        "model": contender.name,
        "model_id": contender.model_id or None,
        "about": contender.about,
        "peer": contender.peer,
        "dim": contender.vectors.shape[1],
        "arm": outcome.arm.name,
        **judged,
        "metrics": metrics,
        f"mAP@{VARIANTS_K} by definition": variants(evaluation, outcome),
    }


def _same_as(metric: str) -> str:
    """η_p is another name of R@1."""
    return "R@1" if metric == "eta_p" else metric


def _cell(outcome: Outcome, metric: str) -> str:
    value, interval = 100 * outcome.scores.values[metric], outcome.intervals.get(metric)
    if interval is None:
        return f"{value:.1f}"
    return f"{value:.1f} ({100 * interval.low:.0f}–{100 * interval.high:.0f})"
