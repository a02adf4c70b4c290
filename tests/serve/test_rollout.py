"""A new model beside the old one: compared in its shadow, then switched to."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from microtome.search.query import TileQuery, VectorQuery
from microtome_serve.access import Access
from microtome_serve.asking import Ask
from microtome_serve.rollout import Choice, Compared, Rollout, overlap
from microtome_serve.settings import ServeSettings
from microtome_serve.shadow import Answered, Shadow


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


OLD = ServeSettings("atlas", model="starter", candidate="tissue", shadow=0.5)
NEW = ServeSettings("atlas", model="tissue")


def switched(settings: ServeSettings) -> Choice:
    return replace(Choice.first(settings), answers="candidate", changes=1)


def exchanged(rollout: Rollout, told: Choice, seen: Compared = Compared()) -> Choice:  # noqa: B008
    return asyncio.run(rollout.exchange(told, seen))


def test_replicas_tell_a_rollout_that_began_anew_what_is_chosen():
    assert exchanged(Rollout(OLD), switched(OLD)).answers == "candidate"


def test_replicas_of_the_deployment_before_tell_the_new_one_nothing():
    rollout = Rollout(NEW)

    assert exchanged(rollout, switched(OLD), Compared(questions=7)) == Choice.first(NEW)
    assert asyncio.run(rollout.report()) == (Choice.first(NEW), Compared())


# what is known, what is told, whether it is taken
TOLD = {
    "newer": (Choice.first(OLD), switched(OLD), True),
    "older": (switched(OLD), Choice.first(OLD), False),
    "of the deployment after": (Choice.first(OLD), switched(NEW), False),
    "of the deployment before": (Choice.first(NEW), switched(OLD), False),
}


@pytest.mark.parametrize(("known", "told", "taken"), TOLD.values(), ids=TOLD)
def test_a_replica_takes_what_is_newer_and_of_its_own_deployment(known, told, taken):
    assert known.or_newer(told) == (told if taken else known)


class Share:
    """Of questions, all are to be compared; the answers are alike."""

    def __init__(self) -> None:
        self.choice = Choice.first(replace(OLD, shadow=1.0))
        self.seen = Compared()

    def note(self, compared: Compared) -> None:
        self.seen += compared

    def answer(self, *_) -> dict:
        return {"hits": hits("a")}


TILE = Ask(TileQuery("0f" * 16))


# what is asked, of how many questions the times and hits are compared
@pytest.mark.parametrize(
    ("ask", "questions"),
    [
        (TILE, 1),
        (replace(TILE, alpha=0.05), 1),  # nobody waits for that
        (replace(TILE, site_columns=("site",)), 0),  # to count them takes its time, too
        (replace(TILE, level="slide"), 0),
        (replace(TILE, model="tissue"), 0),
        (replace(TILE, query=VectorQuery(np.ones((1, 4), np.float32))), 0),
    ],
)
def test_only_what_takes_either_model_as_much_is_compared(ask, questions):
    share = Share()
    shadow = Shadow(share)
    shadow.maybe(share, Answered(Access("all", "operator"), ask, share.answer(), 0.5))
    shadow._thread.shutdown(wait=True)
    assert (share.seen.questions, share.seen.failed) == (questions, 0)


def test_a_deployment_without_a_candidate_shadows_nothing():
    assert Choice.first(OLD).shadow == 0.5
    assert Choice.first(replace(NEW, shadow=0.5)).shadow == 0
