"""One slide's work: the second reader's chance, and errors nobody foresaw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from microtome.atlas.outcome import SlideOutcome
from microtome.config import GridSettings, MppSettings, ReaderChoice
from microtome.engine import slide_work
from microtome.engine.slide_work import SlideWork
from microtome.errors import TileReadFailed
from microtome.slides.opening import open_slide, slide_files_of
from microtome.slides.slide import SlideReader, SlideRef
from microtome.slides.tiff_reader import TiffReader
from microtome_jobs.made.pyramid import write_pyramid
from support.made_atlas import MadeAtlas
from support.mean_colour import MeanColour

GRID = GridSettings(mpp=0.5, tile_px=256)


@pytest.fixture
def slide(tmp_path: Path) -> SlideRef:
    rng = np.random.default_rng(0)
    tissue = np.array([190, 120, 180]) + rng.normal(0, 20, (1024, 1024, 1))
    write_pyramid(tmp_path / "a.svs", tissue.clip(0, 255).astype(np.uint8))
    return SlideRef("a", str(tmp_path / "a.svs"))


def run(ref: SlideRef, folder: Path, reader: ReaderChoice = "auto") -> SlideOutcome:
    atlas = MadeAtlas(str(folder / "atlas"), grid=GRID)
    work = SlideWork(atlas.target, GRID, MppSettings(), reader, 0.5, batch_size=4, threads=2)
    return work.run(ref, MeanColour(), lambda planned, done: None)


@pytest.fixture
def direct_reader_stumbles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The direct reader opens the slide well and fails at its lower right quarter."""
    read = TiffReader.read_reduced

    def stumbling(self, x, y, level, width_px, height_px, *, reduction):
        if level == 0 and x >= 512 and y >= 512:
            raise TileReadFailed("a can't be decoded at tile (2, 2) of level 0")
        return read(self, x, y, level, width_px, height_px, reduction=reduction)

    monkeypatch.setattr(TiffReader, "read_reduced", stumbling)


@pytest.mark.usefixtures("direct_reader_stumbles")
def test_a_slide_that_fails_half_way_is_tried_with_the_other_reader(slide, tmp_path):
    outcome = run(slide, tmp_path)

    assert (outcome.status, outcome.stored_tiles) == ("done", 16)
    assert outcome.slide
    assert outcome.slide.reader == "openslide"


@pytest.mark.usefixtures("direct_reader_stumbles")
def test_a_forced_reader_gets_no_second(slide, tmp_path):
    outcome = run(slide, tmp_path, reader="tiff")

    assert (outcome.status, outcome.cause) == ("failed", "read-failed")


def test_where_both_readers_fail_the_first_one_s_word_stands(slide, tmp_path):
    path = Path(slide.uri)
    damaged = bytearray(path.read_bytes())
    place = damaged.index(b"\xff\xda", len(damaged) // 4)  # a scan of some tile of level 0
    damaged[place + 64 : place + 96] = b"\xff\xd9" * 16
    path.write_bytes(damaged)

    outcome = run(slide, tmp_path)

    assert (outcome.status, outcome.cause) == ("failed", "read-failed")
    assert "can't be decoded at tile" in outcome.message


def test_an_error_nobody_foresaw_fails_the_slide_and_not_the_job(slide, tmp_path, monkeypatch):
    def opened(ref: SlideRef, mpp: MppSettings, choice: ReaderChoice) -> SlideReader:
        reader = open_slide(ref, mpp, choice)
        monkeypatch.setattr(reader, "read_region", None)
        return reader

    monkeypatch.setattr(slide_work, "open_slide", opened)

    outcome = run(slide, tmp_path, reader="openslide")

    assert (outcome.status, outcome.cause) == ("failed", "unexpected")
    assert outcome.message.startswith("a brought up a TypeError")


def test_vectors_that_are_no_numbers_fail_the_slide_and_not_the_job(slide, tmp_path, monkeypatch):
    monkeypatch.setattr(
        MeanColour, "encode", lambda self, pixels: np.full((len(pixels), 4), np.nan, np.float32)
    )

    outcome = run(slide, tmp_path)

    assert (outcome.status, outcome.cause) == ("failed", "model")
    assert "gave vectors that aren't finite for the slide a" in outcome.message


@pytest.mark.parametrize(("holder", "status"), [("a", "unchanged"), ("b", "known")])
def test_bytes_that_the_atlas_holds_are_not_embedded_again(slide, tmp_path, holder, status):
    atlas = MadeAtlas(str(tmp_path / "atlas"), grid=GRID)
    content = slide_files_of(slide).content_id
    work = SlideWork(
        atlas.target, GRID, MppSettings(), "auto", 0.5, batch_size=4, threads=2,
        known={content: holder},
    )  # fmt: skip

    outcome = work.run(slide, MeanColour(), lambda planned, done: None)

    assert (outcome.status, outcome.content_id, outcome.fragments) == (status, content, ())
