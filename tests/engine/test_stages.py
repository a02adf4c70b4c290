"""The pipeline on a real Ray, with slides that are none."""

from __future__ import annotations

import os
import signal

import pytest

from microtome.atlas.outcome import SlideOutcome
from microtome.engine.progress import Tally
from microtome.engine.slide_work import OnTiles
from microtome.engine.stages import ModelChoice, Workers, embed_slides
from microtome.models.encoder import Encoder, EncoderOptions
from microtome.slides.slide import SlideRef

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def test_a_slide_that_kills_its_process_takes_no_other_along() -> None:
    class Deadly:  # local, so that it travels to workers that know no tests
        def run(self, ref: SlideRef, encoder: Encoder, on_tiles: OnTiles) -> SlideOutcome:
            if ref.slide_id == "deadly":
                os.kill(os.getpid(), signal.SIGKILL)
            return SlideOutcome(ref, "failed", cause="unreadable", message="there is no slide")

    refs = [SlideRef(name, name) for name in ("a", "deadly", "b")]
    model = ModelChoice("starter", EncoderOptions())

    outcomes = list(embed_slides(refs, Deadly(), model, Workers(1, 1, 0.0), Tally()))

    assert sorted(outcome.ref.slide_id for outcome in outcomes) == ["a", "b"]
