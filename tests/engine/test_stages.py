"""The pipeline on a real Ray, with slides that are none."""

from __future__ import annotations

import os
import pickle
import signal

import pytest

from microtome.atlas.outcome import SlideOutcome
from microtome.engine.progress import Tally
from microtome.engine.slide_work import OnTiles
from microtome.engine.stages import ModelChoice, SlideActor, Workers, embed_slides
from microtome.errors import ModelReplaced
from microtome.models.encoder import Encoder, EncoderOptions
from microtome.models.starter_card import STARTER_CARD, STATISTICS_CARD
from microtome.slides.slide import SlideRef

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def test_a_slide_that_kills_its_process_takes_no_other_along() -> None:
    class Deadly:  # local, so that it travels to workers that know no tests
        def run(self, ref: SlideRef, encoder: Encoder, on_tiles: OnTiles) -> SlideOutcome:
            if ref.slide_id == "deadly":
                os.kill(os.getpid(), signal.SIGKILL)
            return SlideOutcome(ref, "failed", cause="unreadable", message="there is no slide")

    class Nothing:  # each process that is started anew would load a model
        def load(self) -> None:
            return None

    refs = [SlideRef(name, name) for name in ("a", "deadly", "b")]

    outcomes = list(embed_slides(refs, Deadly(), Nothing(), Workers(1, 1, 0.0), Tally()))

    assert sorted(outcome.ref.slide_id for outcome in outcomes) == ["a", "b"]


def test_a_worker_that_finds_another_model_embeds_nothing() -> None:
    class Untouched:
        def run(self, ref: SlideRef, encoder: Encoder, on_tiles: OnTiles) -> SlideOutcome:
            raise AssertionError(f"{ref.slide_id} is embedded by {encoder.card.name}")

    replaced = ModelChoice("statistics", EncoderOptions(), STARTER_CARD.model_id)
    worker = SlideActor(Untouched(), replaced, Tally())

    (said,) = worker({"ref": [pickle.dumps(SlideRef("a", "a"))]})["result"]

    with pytest.raises(ModelReplaced, match=f"and is {STATISTICS_CARD.model_id}"):
        raise pickle.loads(said)
