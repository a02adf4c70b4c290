"""Intervals: what is drawn together, and that they hold the truth as often as they promise."""

from __future__ import annotations

import json

import numpy as np
import pytest

from microtome.errors import EvaluationError
from microtome.evaluation.intervals import bootstrap, intervals
from microtome.evaluation.metrics import judge
from microtome.evaluation.neighbours import Neighbours


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution():
    values = np.random.default_rng(0).normal(size=2000)
    found = bootstrap(values)
    half = 1.96 * values.std() / np.sqrt(2000)
    assert (found.low, found.high) == pytest.approx(
        (values.mean() - half, values.mean() + half), abs=half / 8
    )
    assert (found.drawn, found.by) == (2000, "query")


def test_images_of_one_case_are_drawn_together():
    # 20 cases of 50 images that are all right or all wrong: there are 20 facts, not 1,000.
    per_case = np.random.default_rng(1).integers(0, 2, 20)
    values, cases = np.repeat(per_case, 50).astype(float), [f"c{i // 50}" for i in range(1000)]
    by_case, by_query = bootstrap(values, cases), bootstrap(values)
    alone = bootstrap(per_case.astype(float))
    assert (by_case.low, by_case.high) == (alone.low, alone.high)
    assert by_case.high - by_case.low > 5 * (by_query.high - by_query.low)
    assert (by_case.drawn, by_case.by) == (20, "group")


def test_it_holds_the_truth_about_as_often_as_promised():
    random = np.random.default_rng(2)
    held = 0
    for _ in range(200):
        cases = random.normal(size=60)  # truth: 0
        values = np.repeat(cases, 3) + random.normal(size=180)
        found = bootstrap(values, [f"c{i // 3}" for i in range(180)])
        held += found.low <= 0 <= found.high
    assert 0.88 <= held / 200 <= 0.99


def test_what_has_no_value_doesn_t_count():
    values = np.array([1.0, 1.0, np.nan, 1.0])
    found = bootstrap(values)
    assert (found.low, found.high) == (pytest.approx(0.025 ** (1 / 3)), 1)
    assert found.drawn == 3
    assert bootstrap(np.array([1.0, np.nan, 1.0]), ["a", "b", "a"]) is None


# groups, what each is worth, bounds, interval: 0.025^(1/10) = 0.69
@pytest.mark.parametrize(
    ("groups", "worth", "bounds", "expected"),
    [
        (10, 1.0, (0, 1), (0.69, 1)),
        (10, 0.0, (0, 1), (0, 0.31)),
        (10, 0.5, (0, 1), (0.345, 0.655)),
        (10, 0.0, (-1, 1), (-0.31, 0.31)),
        (1000, 1.0, (0, 1), (0.9963, 1)),
    ],
)
def test_groups_that_are_all_alike_may_yet_differ(groups, worth, bounds, expected):
    found = bootstrap(np.full(groups, worth), bounds=bounds)
    assert (found.low, found.high) == pytest.approx(expected, abs=2e-3)


def test_images_without_a_case_are_cases_of_their_own():
    assert bootstrap(np.ones(4), ["a", None, None, "a"]).drawn == 3
    assert bootstrap(np.ones(4), [None] * 4).by == "query"


def test_one_case_says_nothing():
    assert bootstrap(np.ones(3), ["a"] * 3) is None
    assert intervals(judged()[3], ["a"] * 40) == {}


def test_groups_must_fit():
    with pytest.raises(EvaluationError, match="2 groups for 3 queries"):
        bootstrap(np.ones(3), ["a", "b"])


def judged(queries: int = 40):
    random = np.random.default_rng(0)
    places = np.array([random.permutation(30)[:5] for _ in range(queries)])
    labels, gallery = random.integers(0, 3, queries), random.integers(0, 3, 30)
    found = Neighbours(places, np.zeros_like(places, dtype=np.float32))
    return places, labels, gallery, judge(found, labels, gallery, (1, 3, 5))


def test_every_metric_has_one_and_it_is_that_of_asking_anew(monkeypatch):
    """The slow way: judge each draw of cases from the beginning."""
    monkeypatch.setattr("microtome.evaluation.intervals.REPLICATES", 100)
    places, labels, gallery, scores = judged()
    cases = [f"c{i % 8}" for i in range(40)]
    found = intervals(scores, cases, seed=5)
    random, drawn = np.random.default_rng(5), []
    for row in random.integers(0, 8, (100, 8)):
        rows = np.concatenate([np.flatnonzero(np.arange(40) % 8 == case) for case in row])
        again = Neighbours(places[rows], np.zeros((len(rows), 5), np.float32))
        drawn.append(judge(again, labels[rows], gallery, (1, 3, 5)).values)
    assert set(found) == set(scores.values)
    for name, interval in found.items():
        expected = np.quantile([values[name] for values in drawn], [0.025, 0.975])
        assert (interval.low, interval.high) == pytest.approx(tuple(expected)), name


def test_a_seed_gives_the_same_and_another_nearly_so():
    _, _, _, scores = judged(200)
    one, same, other = (intervals(scores, seed=seed)["R@3"] for seed in (0, 0, 1))
    assert one == same
    assert one != other
    assert one.low == pytest.approx(other.low, abs=0.05)


def test_intervals_are_ready_for_json():
    told = json.loads(json.dumps(bootstrap(np.arange(4.0), list("aabb")).to_json()))
    assert (told["drawn"], told["by"]) == (2, "group")
