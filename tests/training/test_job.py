"""What must be equal for earlier work to be taken up, and which work is the best."""

from __future__ import annotations

from typing import Any

import pytest

from microtome.datasets.samples import LabelledSet, samples_of
from microtome_training.job import Job
from microtome_training.reading import load_recipe
from microtome_training.worker import score_of

ROWS = {"uri": ["images.npy"] * 4, "index": [0, 1, 2, 3], "label": [0, 0, 1, 1]}


def job_of(*changes: str, rows: dict[str, Any] | None = None) -> Job:
    labelled = LabelledSet("made", ("a", "b"), samples_of(rows or ROWS), mpp=0.25)
    no_log: Any = None
    return Job(load_recipe(["folder-lgffem"], changes), labelled, None, 1, no_log)


def features_of(job: Job) -> dict[str, Any]:
    return job.features_identity(job.training, 4)


@pytest.mark.parametrize(
    "other",
    [
        job_of(rows={**ROWS, "index": [0, 1, 2, 4]}),  # other images of the same file
        job_of(rows={**ROWS, "label": [0, 1, 0, 1]}),  # others stand in for unreadable ones
        job_of("data.mpp=0.5"),
        job_of("augmentation.zoom=2"),
        job_of("model.input_px=96"),
    ],
)
def test_features_of_others_are_never_taken(other: Job) -> None:
    assert features_of(job_of()) == features_of(job_of())
    assert features_of(other) != features_of(job_of())


def test_features_serve_whatever_is_learnt_from_them() -> None:
    assert features_of(job_of("fit.epochs=3", "optimiser.lr=0.1")) == features_of(job_of())


@pytest.mark.parametrize("change", ["fit.batch_size=32", "fit.seed=1", "fit.accumulate=2"])
def test_other_batches_are_told_from_the_same(change: str) -> None:
    assert job_of(change).batching != job_of().batching
    assert job_of("fit.epochs=3").batching == job_of().batching


def test_an_unjudged_run_that_goes_on_keeps_its_last_epoch() -> None:
    ended, extended = (score_of({"loss": 1.0}, epoch) for epoch in (1, 3))
    assert extended > ended
    assert score_of({"R@1": 0.5}, 3) == 0.5
