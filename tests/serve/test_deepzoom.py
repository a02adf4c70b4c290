from __future__ import annotations

import math
from xml.etree import ElementTree

import numpy as np
import openslide
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openslide.deepzoom import DeepZoomGenerator

from microtome.config import MppSettings
from microtome.slides.opening import open_slide
from microtome.slides.slide import SlideRef
from microtome_jobs.made.pyramid import PyramidSpec, write_pyramid
from microtome_serve.deepzoom import (
    OVERLAP_PX,
    TILE_PX,
    Box,
    DeepZoom,
    TileAddress,
    crop,
    read_box,
)

sizes = st.integers(1, 200_000)


class Blank:
    """What OpenSlide's generator asks of a slide."""

    def __init__(self, width, height):
        self.dimensions = (width, height)
        self.level_dimensions = (self.dimensions,)
        self.level_downsamples = (1.0,)
        self.properties = {}

    def get_best_level_for_downsample(self, _):
        return 0


@pytest.mark.parametrize(
    ("size", "last_level"),
    [((1, 1), 0), ((2, 1), 1), ((256, 256), 8), ((257, 3), 9), ((100_000, 60_000), 17)],
)
def test_the_last_level_is_the_slide_itself(size, last_level):
    deepzoom = DeepZoom(*size)
    assert deepzoom.last_level == last_level
    assert deepzoom.size_px(last_level) == size
    assert deepzoom.size_px(0) == (1, 1)


@given(sizes, sizes, st.data())
def test_levels_and_tiles_are_those_of_openslides_generator(width, height, data):
    ours, theirs = DeepZoom(width, height), DeepZoomGenerator(Blank(width, height), TILE_PX, 1)
    assert ours.last_level + 1 == theirs.level_count
    level = data.draw(st.integers(0, ours.last_level))
    assert ours.size_px(level) == theirs.level_dimensions[level]
    columns, rows = theirs.level_tiles[level]
    column, row = data.draw(st.integers(0, columns - 1)), data.draw(st.integers(0, rows - 1))
    box = ours.box(TileAddress(level, column, row))
    assert (box.width_px, box.height_px) == theirs.get_tile_dimensions(level, (column, row))
    place, _, _ = theirs.get_tile_coordinates(level, (column, row))
    assert (box.x * ours.downsample(level), box.y * ours.downsample(level)) == place
    assert ours.box(TileAddress(level, columns, row)) is None
    assert ours.box(TileAddress(level, column, rows)) is None


@pytest.mark.parametrize(
    "address", [(-1, 0, 0), (12, 0, 0), (11, -1, 0), (11, 0, -1), (11, 10**30, 0), (10**30, 0, 0)]
)
def test_no_tile_lies_outside(address):
    assert DeepZoom(2000, 1000).box(TileAddress(*address)) is None


def test_the_descriptor_says_what_a_viewer_needs():
    image = ElementTree.fromstring(DeepZoom(2000, 1000).descriptor("jpeg"))
    assert image.attrib == {
        "TileSize": str(TILE_PX),
        "Overlap": str(OVERLAP_PX),
        "Format": "jpeg",
    }
    assert image[0].attrib == {"Width": "2000", "Height": "1000"}


@pytest.fixture(scope="module", params=[1, 3], ids=["one level", "three levels"])
def pyramid(request, tmp_path_factory):
    """A slide whose colour says where one is: red grows to the right, green downwards."""
    path = tmp_path_factory.mktemp("pyramid") / "ramp.svs"
    y, x = np.mgrid[:1001, :1501]
    pixels = np.stack([x * 255 / 1500, y * 255 / 1000, np.full(x.shape, 90)], axis=2)
    spec = PyramidSpec(mpp=0.5, levels=request.param, quality=95)
    write_pyramid(path, pixels.astype(np.uint8), spec)
    return path


def test_every_tile_shows_its_place_and_no_seam(pyramid):
    with open_slide(SlideRef("ramp", str(pyramid)), MppSettings()) as reader:
        deepzoom = DeepZoom(reader.slide.width_px, reader.slide.height_px)
        for level in range(deepzoom.last_level + 1):
            shrink, (width, height) = deepzoom.downsample(level), deepzoom.size_px(level)
            for column in range(math.ceil(width / TILE_PX)):
                for row in range(math.ceil(height / TILE_PX)):
                    box = deepzoom.box(TileAddress(level, column, row))
                    pixels = read_box(reader, box, shrink)
                    assert pixels.shape == (box.height_px, box.width_px, 3)
                    y, x = np.mgrid[: box.height_px, : box.width_px]
                    middle_x = np.minimum((x + box.x + 0.5) * shrink, 1500)
                    middle_y = np.minimum((y + box.y + 0.5) * shrink, 1000)
                    allowed = 5 + shrink * 255 / 1000  # JPEG's noise, and one pixel of the level
                    assert np.abs(pixels[..., 0] - middle_x * 255 / 1500).max() < allowed
                    assert np.abs(pixels[..., 1] - middle_y * 255 / 1000).max() < allowed


def test_pixels_are_nearly_openslides(pyramid):
    theirs = DeepZoomGenerator(openslide.OpenSlide(pyramid), TILE_PX, OVERLAP_PX)
    with open_slide(SlideRef("ramp", str(pyramid)), MppSettings()) as reader:
        deepzoom = DeepZoom(reader.slide.width_px, reader.slide.height_px)
        for address in [(11, 1, 1), (10, 2, 1), (9, 0, 0), (8, 0, 0), (6, 0, 0)]:
            box = deepzoom.box(TileAddress(*address))
            ours = read_box(reader, box, deepzoom.downsample(address[0])).astype(int)
            picture = np.asarray(theirs.get_tile(address[0], address[1:])).astype(int)
            height, width = picture.shape[:2]  # theirs may be a pixel short at a rim
            assert np.abs(ours[:height, :width] - picture).mean() < 2.5


def test_a_tile_that_would_need_the_whole_slide_is_not_read(pyramid, monkeypatch):
    monkeypatch.setattr("microtome_serve.deepzoom.MOST_READ_PX", 10_000)
    with open_slide(SlideRef("ramp", str(pyramid)), MppSettings()) as reader:
        assert read_box(reader, Box(0, 0, 200, 200), 1) is None
        assert read_box(reader, Box(0, 0, 100, 100), 1) is not None


def test_a_crop_of_a_small_picture_shows_the_same_place():
    small = np.zeros((50, 100, 3), np.uint8)
    small[:, 50:] = 200
    size = (1000, 500)
    assert crop(small, Box(0, 0, 400, 400), size).max() == 0
    assert crop(small, Box(600, 100, 400, 400), size).min() == 200
    assert crop(small, Box(999, 499, 1, 1), size).shape == (1, 1, 3)
