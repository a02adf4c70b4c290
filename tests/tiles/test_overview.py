from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from microtome.errors import SettingError
from microtome.tiles import overview as overview_module
from microtome.tiles.overview import read_overview
from microtome.tiles.thumbnail import thumbnail
from support.array_slide import ArraySlide


def picture(width_px: int, height_px: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)


def block_means(pixels: np.ndarray, factor: int) -> np.ndarray:
    """The slow way; part blocks at the right and below are filled with their own rim."""
    height, width = (-(-length // factor) for length in pixels.shape[:2])
    rim = ((0, height * factor - pixels.shape[0]), (0, width * factor - pixels.shape[1]), (0, 0))
    whole = np.pad(pixels, rim, mode="edge")
    return whole.reshape(height, factor, width, factor, 3).mean(axis=(1, 3))


@pytest.mark.parametrize("size_px", [(160, 96), (161, 97), (15, 300), (1, 1)])
def test_every_pixel_is_the_mean_of_its_block(size_px):
    pixels = picture(*size_px)
    seen = read_overview(ArraySlide(pixels, mpp=0.5, downsamples=(1,)), mpp=8.0)
    assert seen.downsample == 16
    assert np.abs(seen.pixels - block_means(pixels, 16)).max() <= 1


def test_blocks_join_without_a_seam(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(overview_module, "BLOCK_PX", 50)  # so that small pictures take many
    pixels = picture(333, 222)
    reader = ArraySlide(pixels, mpp=0.5, downsamples=(1,))
    seen = read_overview(reader, mpp=4.0)
    assert len(reader.reads) == 35
    assert max(width * height for *_, width, height in reader.reads) <= 50 * 50
    assert np.abs(seen.pixels - block_means(pixels, 8)).max() <= 1


def test_the_coarsest_level_that_serves_is_read():
    reader = ArraySlide(picture(640, 640), mpp=0.5, downsamples=(1, 4, 16, 64))
    assert read_overview(reader, mpp=8.0).downsample == 16
    assert {level for _, _, level, _, _ in reader.reads} == {2}


def test_more_pixels_than_allowed_are_never_held():
    reader = ArraySlide(picture(640, 640), mpp=0.5, downsamples=(1,))
    seen = read_overview(reader, mpp=1.0, max_px=10_000)
    assert seen.pixels.shape == (92, 92, 3)
    assert seen.downsample == 7


def test_a_slide_coarser_than_asked_is_read_as_it_is():
    pixels = picture(40, 30)
    seen = read_overview(ArraySlide(pixels, mpp=20.0, downsamples=(1,)), mpp=8.0)
    assert (seen.pixels == pixels).all()


@pytest.mark.parametrize(
    ("slide_px", "thumbnail_px"),
    [
        ((3000, 1500), (256, 128)),
        ((700, 2100), (85, 256)),
        ((256, 256), (256, 256)),
        ((100, 60), (100, 60)),  # never enlarged
        ((2000, 1), (256, 1)),
    ],
)
def test_a_thumbnail_fits_its_side(slide_px, thumbnail_px):
    jpeg = thumbnail(ArraySlide(picture(*slide_px), downsamples=(1,)), side_px=256)
    image = Image.open(io.BytesIO(jpeg))
    assert image.format == "JPEG"
    assert image.size == thumbnail_px


def test_a_thumbnail_keeps_colours_and_places():
    pixels = np.full((512, 512, 3), 255, np.uint8)
    pixels[:, :256] = (200, 40, 120)
    image = np.asarray(Image.open(io.BytesIO(thumbnail(ArraySlide(pixels), side_px=64))))
    assert np.abs(image[:, :24].astype(int) - (200, 40, 120)).max() < 8
    assert image[:, 40:].min() > 247


def test_an_absurd_thumbnail_is_refused():
    with pytest.raises(SettingError, match="side_px"):
        thumbnail(ArraySlide(picture(64, 64)), side_px=0)
