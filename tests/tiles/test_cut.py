from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from microtome.config import GridSettings, MppSettings
from microtome.errors import NotBrightfield, SettingError, SlideTooCoarse, TileReadFailed
from microtome.slides.opening import open_slide
from microtome.slides.slide import Pixels, SlideRef
from microtome.tiles.cut import TilePlan, cut_tiles, plan_tiles
from microtome.tiles.grid import TileGrid
from microtome.tiles.quality import sharpness
from microtome.tiles.reading import read_tile
from support.array_slide import ArraySlide

GRID = GridSettings(mpp=0.5, tile_px=64, stride_px=64)


def half_tissue() -> Pixels:
    """1024 px a side: noisy eosin on the left, glass from x = 512 on."""
    pixels = np.full((1024, 1024, 3), 243, np.uint8)
    noise = np.random.default_rng(0).integers(-30, 30, (1024, 512, 3))
    pixels[:, :512] = np.array((215, 140, 185)) + noise
    return pixels


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    return half_tissue()


class TestPlan:
    def test_tiles_of_tissue_are_kept_and_tiles_of_glass_are_not(self, pixels: Pixels):
        plan = plan_tiles(ArraySlide(pixels), GRID)
        assert plan.corners.tolist() == [
            [x, y] for y in range(0, 1024, 64) for x in range(0, 512, 64)
        ]
        assert (plan.tissue == 1).all()
        assert plan.size_px == 64

    @pytest.mark.parametrize(
        # tiles at x = 480 are half tissue
        ("min_tissue", "columns"), [(0.0, 11), (0.1, 6), (0.4, 6), (0.6, 5), (1.0, 5)],
    )  # fmt: skip
    def test_the_least_fraction_decides_at_the_rim(self, pixels: Pixels, min_tissue, columns):
        plan = plan_tiles(ArraySlide(pixels), GridSettings(0.5, 64, 96), min_tissue)
        assert len(np.unique(plan.corners[:, 0])) == columns
        assert (plan.tissue >= min_tissue).all()

    def test_tiles_are_read_in_blocks_of_sixteen_a_side(self):
        reader = ArraySlide(np.full((640, 1056, 3), (215, 140, 185), np.uint8))
        corners = plan_tiles(reader, GridSettings(0.5, 32, 32)).corners
        assert sorted(map(tuple, corners.tolist())) == sorted(
            (x, y) for x in range(0, 1056, 32) for y in range(0, 640, 32)
        )
        blocks = [(y // 512, x // 512) for x, y in corners.tolist()]
        assert blocks == sorted(blocks)
        assert corners[:17].tolist() == [*([x, 0] for x in range(0, 512, 32)), [0, 32]]

    def test_blank_glass_gives_an_empty_plan_and_no_batch(self):
        reader = ArraySlide(np.full((512, 512, 3), 243, np.uint8))
        plan = plan_tiles(reader, GRID)
        assert len(plan) == 0
        assert list(cut_tiles(reader, plan, batch_size=8, threads=2)) == []

    def test_a_slide_smaller_than_a_tile_gives_an_empty_plan(self, pixels: Pixels):
        assert len(plan_tiles(ArraySlide(pixels[:40, :40], downsamples=(1,)), GRID)) == 0

    def test_a_dark_slide_is_refused(self):
        with pytest.raises(NotBrightfield):
            plan_tiles(ArraySlide(np.zeros((256, 256, 3), np.uint8)), GRID)

    def test_a_slide_too_coarse_is_refused_before_anything_is_read(self, pixels: Pixels):
        reader = ArraySlide(pixels, mpp=1.0)
        with pytest.raises(SlideTooCoarse):
            plan_tiles(reader, GRID)
        assert reader.bytes_read == 0

    def test_a_fraction_must_be_one(self, pixels: Pixels):
        with pytest.raises(SettingError, match="min_tissue"):
            plan_tiles(ArraySlide(pixels), GRID, min_tissue=50)

    def test_corners_and_fractions_must_match(self, pixels: Pixels):
        plan = plan_tiles(ArraySlide(pixels), GRID)
        with pytest.raises(ValueError, match="corners"):
            TilePlan(plan.corners[1:], plan.tissue, plan.size_px, plan.read, plan.mask)


class Slow(ArraySlide):
    """Takes longer for every second tile, so that tiles are ready out of order."""

    def __init__(self, pixels: Pixels, seconds: float = 0.002, **settings) -> None:
        super().__init__(pixels, downsamples=(1,), **settings)
        self._seconds = seconds

    def read_region(self, x: int, y: int, level: int, width_px: int, height_px: int) -> Pixels:
        time.sleep(self._seconds * (x // width_px % 2))
        return super().read_region(x, y, level, width_px, height_px)


class Gated(ArraySlide):
    """Lets so many reads through, then holds the others up until its gate is opened."""

    def __init__(self, pixels: Pixels) -> None:
        super().__init__(pixels, downsamples=(1,))
        self.let_through = 1000
        self._gate = threading.Event()
        self.open_gate = self._gate.set

    def read_region(self, x: int, y: int, level: int, width_px: int, height_px: int) -> Pixels:
        if len(self.reads) >= self.let_through:
            self._gate.wait(timeout=60)
        return super().read_region(x, y, level, width_px, height_px)


def cutting_threads() -> int:
    return sum(thread.name.startswith("cut-tiles") for thread in threading.enumerate())


def wait_until(true: Callable[[], bool], patience_s: float = 60) -> None:
    end = time.monotonic() + patience_s
    while not true() and time.monotonic() < end:
        time.sleep(0.001)


class TestCut:
    @pytest.mark.parametrize("threads", [1, 2, 5])
    @pytest.mark.parametrize("batch_size", [1, 7, 64, 500])
    def test_every_planned_tile_comes_once_in_order(self, pixels: Pixels, batch_size, threads):
        reader = Slow(pixels, seconds=0.0005)
        plan = plan_tiles(reader, GRID)
        batches = list(cut_tiles(reader, plan, batch_size=batch_size, threads=threads))
        assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
        assert (np.concatenate([batch.corners for batch in batches]) == plan.corners).all()
        assert (np.concatenate([batch.tissue for batch in batches]) == plan.tissue).all()

    @pytest.mark.parametrize("mpp", [0.5, 0.8, 1.0])
    def test_a_batch_holds_the_pixels_of_its_corners(self, pixels: Pixels, mpp):
        reader = ArraySlide(pixels)
        plan = plan_tiles(reader, GridSettings(mpp, 64, 64))
        for batch in cut_tiles(reader, plan, batch_size=10, threads=3):
            tiles = [read_tile(reader, plan.read, x, y) for x, y in batch.corners.tolist()]
            assert (batch.pixels == np.stack(tiles)).all()
            assert (batch.sharpness == sharpness(batch.pixels)).all()

    def test_no_more_than_two_batches_are_decoded_ahead(self, pixels: Pixels):
        reader = Slow(pixels, seconds=0)
        plan = plan_tiles(reader, GRID)
        reader.reads.clear()
        batches = cut_tiles(reader, plan, batch_size=10, threads=4)
        for taken in range(1, 5):
            next(batches)
            most = 10 * (taken + 2)
            wait_until(lambda most=most: len(reader.reads) >= most)
            time.sleep(0.01)
            assert len(reader.reads) == most
        batches.close()

    def test_nothing_is_read_before_the_first_batch_is_asked_for(self, pixels: Pixels):
        reader = ArraySlide(pixels)
        plan = plan_tiles(reader, GRID)
        reader.reads.clear()
        cut_tiles(reader, plan, batch_size=10, threads=2)
        assert reader.reads == []

    def test_a_tile_that_fails_raises_after_the_batches_before_it(self, pixels: Pixels):
        reader = ArraySlide(pixels, broken=[(64, 256)])  # tile 33 of eight a row
        plan = plan_tiles(reader, GRID)
        batches = cut_tiles(reader, plan, batch_size=10, threads=2)
        for _ in range(3):
            assert len(next(batches)) == 10
        with pytest.raises(TileReadFailed, match="64, 256"):
            next(batches)
        assert cutting_threads() == 0

    def test_closing_early_stops_the_threads_after_the_tiles_they_are_at(
        self, pixels: Pixels, monkeypatch: pytest.MonkeyPatch
    ):
        reader = Gated(pixels)
        plan = plan_tiles(reader, GRID)
        reader.reads.clear()
        reader.let_through = 45
        batches = cut_tiles(reader, plan, batch_size=40, threads=2)
        next(batches)
        assert cutting_threads() == 2
        shutdown = ThreadPoolExecutor.shutdown

        def open_gate_meanwhile(pool: ThreadPoolExecutor, wait=True, **how: bool) -> None:
            shutdown(pool, wait=False, **how)
            reader.open_gate()
            shutdown(pool, wait=wait)

        monkeypatch.setattr(ThreadPoolExecutor, "shutdown", open_gate_meanwhile)
        batches.close()
        assert cutting_threads() == 0
        assert len(reader.reads) <= 45 + 2

    @pytest.mark.parametrize(("batch_size", "threads"), [(0, 1), (1, 0)])
    def test_wrong_settings_are_refused_at_the_call(self, pixels: Pixels, batch_size, threads):
        reader = ArraySlide(pixels)
        with pytest.raises(SettingError):
            cut_tiles(reader, plan_tiles(reader, GRID), batch_size=batch_size, threads=threads)


class TestRealSlides:
    def test_an_aperio_slide(self, real_data: Path):
        path = real_data / "wsi/CMU-1-Small-Region.svs"
        with open_slide(SlideRef("cmu", str(path)), MppSettings()) as reader:
            plan = plan_tiles(reader, GridSettings())
            assert len(plan) == 49  # of 117; looked at on a picture
            assert plan.mask.area_mm2(reader.slide.mpp) == pytest.approx(0.66, abs=0.03)
            batches = list(cut_tiles(reader, plan, batch_size=16, threads=2))
            kept = set(map(tuple, plan.corners.tolist()))
            left_out = next(c for c in TileGrid.of(reader.slide, GridSettings()) if c not in kept)
            assert read_tile(reader, plan.read, *left_out).mean() > 235
        assert sum(map(len, batches)) == 49
        assert max(batch.pixels.mean() for batch in batches) < 215
        assert min(batch.sharpness.min() for batch in batches) > 100

    def test_fluorescence_is_refused(self, real_data: Path):
        path = real_data / "wsi/test3-DAPI.ndpi"
        with (
            open_slide(SlideRef("dapi", str(path)), MppSettings()) as reader,
            pytest.raises(NotBrightfield, match="dapi is dark"),
        ):
            plan_tiles(reader, GridSettings())
