"""A new model beside the old one: compared in its shadow, then switched to."""

from __future__ import annotations

from microtome_serve.rollout import Choice, Compared, overlap


def hits(*names: str) -> list[dict]:
    return [{"tile_id": name} for name in names]


def test_overlap_is_the_share_of_hits_in_common():
    assert overlap(hits("a", "b"), hits("b", "a")) == 1
    assert overlap(hits("a", "b", "c", "d"), hits("a", "x")) == 0.25
    assert overlap([], hits("a")) == 0
    assert overlap([], []) == 1


def test_what_several_replicas_compared_is_told_as_means():
    seen = Compared(1, 1.0, 0.1, 0.3) + Compared(3, 1.0, 0.3, 0.5, failed=2)

    assert seen.to_json() == {
        "questions": 4,
        "failed": 2,
        "skipped": 0,
        "overlap": 0.5,
        "seconds": 0.1,
        "other_seconds": 0.2,
    }
    assert Compared().to_json()["overlap"] is None


def test_the_other_model_is_the_one_that_does_not_answer():
    assert Choice("model").other == "candidate"
    assert Choice("candidate").other == "model"
