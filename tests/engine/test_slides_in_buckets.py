"""A worker embeds a slide where it lies in S3: little of it moves, and nothing half-read stays."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from microtome.atlas.outcome import SlideOutcome
from microtome.config import GridSettings, MppSettings
from microtome.engine.slide_work import SlideWork
from microtome.slides.slide import SlideRef
from support.faulty_store import DENIED, Passed
from support.glass import write_glass_with_tissue
from support.made_atlas import MadeAtlas
from support.mean_colour import MeanColour

GRID = GridSettings(mpp=0.5, tile_px=256)

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def slide_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_glass_with_tissue(tmp_path_factory.mktemp("far") / "made.svs")


def embedded(uri: str, folder: Path) -> SlideOutcome:
    atlas = MadeAtlas(str(folder / "atlas"), grid=GRID)
    work = SlideWork(atlas.target, GRID, MppSettings(), "auto", 0.5, batch_size=16, threads=2)
    return work.run(SlideRef("made", uri), MeanColour(), lambda planned, done: None)


def test_a_slide_in_a_bucket_is_embedded_from_little_of_it(s3, slide_path, tmp_path):
    far = embedded(f"{s3.bucket({'made.svs': slide_path})}/made.svs", tmp_path / "far")
    near = embedded(str(slide_path), tmp_path / "near")
    assert (far.status, far.stored_tiles) == ("done", near.stored_tiles)
    assert far.slide
    assert far.slide.reader == "tiff"
    assert far.thumbnail == near.thumbnail
    assert 0 < far.bytes_read < 0.5 * slide_path.stat().st_size


def test_a_store_that_refuses_half_way_fails_the_slide(proxy, s3, slide_path, tmp_path):
    uri, numbers = f"{s3.bucket({'made.svs': slide_path})}/made.svs", itertools.count()
    half_way = 24  # past the header and the mask
    proxy.fault = lambda request: (
        request.is_content and next(numbers) > half_way and request.refuse(403, DENIED)
    )
    outcome = embedded(uri, tmp_path)
    assert (outcome.status, outcome.cause, outcome.fragments) == ("failed", "unreadable", ())
    assert "AccessDenied" in outcome.message
    assert outcome.bytes_read > 0


def test_a_slide_that_is_written_anew_meanwhile_fails(proxy, s3, slide_path, tmp_path):
    uri, numbers = f"{s3.bucket({'made.svs': slide_path})}/made.svs", itertools.count()

    def change_half_way(request: Passed) -> bool:
        if request.is_content and next(numbers) == 24:
            s3.put(uri, slide_path.read_bytes()[:-1] + b"x")
        return False

    proxy.fault = change_half_way
    outcome = embedded(uri, tmp_path)
    assert (outcome.status, outcome.cause) == ("failed", "changed")
    assert "changed while it was read" in outcome.message
