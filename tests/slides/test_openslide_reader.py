"""Pixels and facts of a slide whose every pixel is known."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from microtome.config import MppSettings
from microtome.errors import SlideWithoutMpp, TileReadFailed
from microtome.slides.opening import open_slide
from microtome.slides.slide import SlideReader, SlideRef
from microtome_jobs.made.pyramid import PyramidSpec, write_pyramid

JPEG_ERROR = 4
"""Grey levels by which a smooth picture differs after JPEG, at most."""


def opened(path: Path, settings: MppSettings | None = None) -> SlideReader:
    return open_slide(SlideRef(path.name, str(path)), settings or MppSettings(), "openslide")


def test_the_headers_facts(svs):
    with opened(svs) as reader:
        slide = reader.slide
    assert (slide.format, slide.vendor, slide.reader) == ("svs", "aperio", "openslide")
    assert (slide.mpp, slide.mpp_source, slide.objective) == (0.5, "slide", 20.0)
    assert [(level.width_px, level.height_px) for level in slide.levels] == [(700, 500), (175, 125)]
    assert slide.levels[1].downsample == 4.0
    assert slide.size_bytes == svs.stat().st_size


def test_pixels_are_the_pictures(svs, picture):
    with opened(svs) as reader:
        region = reader.read_region(100, 60, 0, 300, 200)
    assert region.shape == (200, 300, 3)
    assert region.dtype == np.uint8
    assert region.flags.writeable
    difference = np.abs(region.astype(int) - picture[60:260, 100:400])
    assert difference.mean() < JPEG_ERROR


def test_a_lower_level_is_placed_in_level_0_pixels(svs, picture):
    with opened(svs) as reader:
        region = reader.read_region(400, 200, 1, 20, 10)
    expected = picture[200:240, 400:480].reshape(10, 4, 20, 4, 3).mean((1, 3))
    assert np.abs(region - expected).mean() < JPEG_ERROR


def test_outside_the_slide_is_white(svs):
    with opened(svs) as reader:
        assert (reader.read_region(-50, -50, 0, 40, 40) == 255).all()
        corner = reader.read_region(600, 400, 0, 200, 200)
    assert (corner[100:] == 255).all()
    assert (corner[:, 100:] == 255).all()
    assert corner[:100, :100, 2].mean() == pytest.approx(128, abs=JPEG_ERROR)


@pytest.mark.parametrize("wrong", [(0, 0, 2, 10, 10), (0, 0, -1, 10, 10), (0, 0, 0, 0, 10)])
def test_a_region_that_cannot_be_is_a_programming_error(svs, wrong):
    with opened(svs) as reader, pytest.raises(ValueError, match="no region"):
        reader.read_region(*wrong)


def test_threads_read_the_same(svs):
    corners = [(x, y) for x in range(0, 700, 50) for y in range(0, 500, 50)]
    with opened(svs) as reader:

        def read(corner):
            return reader.read_region(*corner, 0, 64, 64)

        alone = [read(corner) for corner in corners]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(read, corners))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


def test_reading_after_closing_is_an_error(svs):
    reader = opened(svs)
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        reader.read_region(0, 0, 0, 10, 10)


def test_one_damaged_place_does_not_spoil_the_others(tmp_path, svs, picture):
    broken = tmp_path / "damaged.svs"
    shutil.copy(svs, broken)
    with broken.open("r+b") as file:  # level 0's tiles come first: spoil the first one's data
        start = file.read(4096).index(b"\xff\xda")
        file.seek(start - 600)
        file.write(b"\xff\xd9" * 800)
    with opened(broken) as reader:
        with pytest.raises(
            TileReadFailed, match=r"damaged\.svs: 64 × 64 px at \(0, 0\) of level 0"
        ):
            reader.read_region(0, 0, 0, 64, 64)
        whole = reader.read_region(300, 300, 0, 64, 64)
    assert np.abs(whole.astype(int) - picture[300:364, 300:364]).mean() < JPEG_ERROR


def test_properties_hold_no_free_text_names_or_days(real_data):
    with opened(real_data / "wsi/CMU-1-Small-Region.svs") as reader:
        kept = reader.slide.properties
    assert kept["aperio.AppMag"] == "20"
    secrets = ("Date", "Time", "User", "ID", "Filename", "comment", "Description", "associated")
    assert not [name for name in kept if any(secret in name for secret in secrets)]


def test_bytes_read_grow(svs):
    if not Path("/proc/self/io").exists():
        pytest.skip("this system doesn't say what a process has read")
    with opened(svs) as reader:
        before = reader.bytes_read
        reader.read_region(0, 0, 0, 700, 500)
        assert reader.bytes_read > before


@pytest.mark.parametrize("aperio", [True, False])
def test_a_slide_without_mpp_is_refused_unless_someone_may_say(tmp_path, picture, aperio):
    path = tmp_path / f"a.{'svs' if aperio else 'tif'}"
    write_pyramid(path, picture, PyramidSpec(mpp=None, levels=2, aperio=aperio))
    with pytest.raises(SlideWithoutMpp):
        opened(path)
    with opened(path, MppSettings(assume_mpp=0.3)) as reader:
        assert (reader.slide.mpp, reader.slide.mpp_source) == (0.3, "assumed")


def test_a_plain_tiff_says_its_mpp_by_its_resolution(tmp_path, picture):
    write_pyramid(tmp_path / "a.tif", picture, PyramidSpec(levels=2, aperio=False))
    with opened(tmp_path / "a.tif") as reader:
        assert reader.slide.mpp == pytest.approx(0.5)
        assert reader.slide.format == "tiff"
