from __future__ import annotations

import io

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from microtome.errors import QueryUnreadable
from microtome.search import picture
from microtome.search.picture import MAX_TILES, cover, load_image, resized, starts
from microtome.search.query import ImageQuery

PINK = (200, 100, 150)
NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def tiff(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, samples, photometric="rgb" if samples.ndim == 3 else "minisblack")
    return file.getvalue()


def load(data: bytes) -> np.ndarray:
    return load_image(ImageQuery("crop.png", data))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "JPEG2000"])
def test_every_format_gives_rgb(kind):
    pixels = load(encoded(Image.new("RGB", (30, 20), PINK), kind))
    assert (pixels.shape, pixels.dtype) == ((20, 30, 3), np.uint8)
    assert np.abs(pixels[10, 10].astype(int) - PINK).max() <= 2


@pytest.mark.parametrize(
    ("what", "data", "rgb"),
    [
        ("grey", encoded(Image.new("L", (9, 9), 120), "PNG"), (120, 120, 120)),
        ("black and white", encoded(Image.new("1", (9, 9), 1), "PNG"), (255, 255, 255)),
        ("palette", encoded(Image.new("RGB", (9, 9), PINK).quantize(4), "PNG"), PINK),
        ("CMYK", encoded(Image.new("CMYK", (9, 9), (55, 155, 105, 0)), "TIFF"), PINK),
        ("clear", encoded(Image.new("RGBA", (9, 9), (*PINK, 0)), "PNG"), (255, 255, 255)),
        ("opaque", encoded(Image.new("RGBA", (9, 9), (*PINK, 255)), "PNG"), PINK),
        ("half clear", encoded(Image.new("RGBA", (9, 9), (0, 0, 0, 102)), "PNG"), (153, 153, 153)),
        ("clear grey", encoded(Image.new("LA", (9, 9), (0, 0)), "PNG"), (255, 255, 255)),
        ("16-bit white", encoded(Image.new("I;16", (9, 9), 65535), "PNG"), (255, 255, 255)),
        ("16-bit grey", tiff(np.full((9, 9), 128 * 257, np.uint16)), (128, 128, 128)),
        ("16-bit RGB", tiff(np.full((9, 9, 3), 128 * 257, np.uint16)), (128, 128, 128)),
    ],
)
def test_every_kind_of_sample_becomes_what_a_viewer_shows(what, data, rgb):
    assert tuple(load(data)[4, 4]) == rgb, what


def test_a_photo_is_turned_as_its_camera_says():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90°
    data = encoded(Image.new("RGB", (30, 20), PINK), "JPEG", exif=exif)
    assert load(data).shape == (30, 20, 3)


@pytest.mark.parametrize(
    ("what", "data"),
    [
        ("empty", b""),
        ("text", b"this is no image"),
        ("JPEG cut short", encoded(Image.fromarray(NOISE), "JPEG")[:-900]),
        ("PNG cut short", encoded(Image.fromarray(NOISE), "PNG")[:2000]),
        ("PNG header only", encoded(Image.fromarray(NOISE), "PNG")[:20]),
        ("TIFF cut short", encoded(Image.fromarray(NOISE), "TIFF")[:100]),
        ("PostScript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        ("several pictures", encoded(Image.new("L", (9, 9)), "TIFF", save_all=True,
                                     append_images=[Image.new("L", (9, 9))])),
        ("no known white", tiff(np.full((9, 9), 0.5, np.float32))),
    ],
)  # fmt: skip
def test_what_is_no_single_readable_image_is_refused_by_name(what, data):
    with pytest.raises(QueryUnreadable, match=r"crop\.png"):
        load(data)


@pytest.mark.parametrize(
    "side_px", [8100, 10000, 14000]
)  # Pillow warns at 9459², refuses at 13377²
def test_a_small_file_that_unfolds_into_too_many_pixels_is_refused_unopened(side_px):
    data = encoded(Image.new("1", (side_px, side_px)), "PNG")
    with pytest.raises(QueryUnreadable, match="64 megapixels"):
        load(data)


def test_a_missing_file_is_named():
    with pytest.raises(QueryUnreadable, match=r"nowhere/crop\.png"):
        load_image(ImageQuery("nowhere/crop.png"))


def test_a_file_too_large_to_be_a_picture_is_not_taken_in(tmp_path, monkeypatch):
    monkeypatch.setattr(picture, "MAX_BYTES", 1 << 20)
    path = tmp_path / "large.png"
    path.write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(QueryUnreadable, match="1 MiB"):
        load_image(ImageQuery(str(path)))


def test_shrinking_keeps_the_mean():
    stripes = np.zeros((40, 40, 3), np.uint8)
    stripes[::2] = 200
    assert (resized(stripes, 20, 20) == 100).all()


@pytest.mark.parametrize(
    # side, tile, count → starts
    ("side_px", "tile_px", "count", "begins"),
    [
        (100, 100, 1, [0]),
        (101, 100, 1, [0]),
        (150, 100, 1, [25]),  # the middle
        (150, 100, 2, [0, 50]),  # both ends
        (150, 100, 3, [0, 25, 50]),
        (300, 100, 3, [0, 100, 200]),
        (250, 100, 4, [0, 50, 100, 150]),
    ],
)
def test_tiles_spread_evenly(side_px, tile_px, count, begins):
    assert starts(side_px, tile_px, count) == begins


@given(st.integers(1, 400), st.integers(1, 400), st.sampled_from([16, 50, 64]))
def test_every_pixel_is_seen_unless_there_are_too_many_tiles(height, width, tile_px):
    places = np.arange(height * width, dtype=np.uint32).reshape(height, width)
    pixels = np.stack([places % 256, places // 256 % 256, places // 65536], axis=2)
    tiles = cover(pixels.astype(np.uint8), tile_px)
    assert tiles.shape[1:] == (tile_px, tile_px, 3)
    assert len(tiles) <= MAX_TILES
    if max(height, width) <= 2 * tile_px:
        seen = tiles.astype(np.uint32) @ np.array([1, 256, 65536], np.uint32)
        assert np.unique(seen).size == height * width


@pytest.mark.parametrize(("side_px", "count"), [(16, 1), (17, 2), (20, 2), (24, 3), (32, 5)])
def test_neighbours_lie_at_most_a_quarter_of_a_tile_apart(side_px, count):
    assert len(cover(np.zeros((16, side_px, 3), np.uint8), 16)) == count


@pytest.mark.parametrize("shape", [(4000, 16), (16, 4000), (900, 900), (2000, 40)])
def test_a_large_picture_is_sampled_by_a_bounded_number_of_tiles(shape):
    count = len(cover(np.zeros((*shape, 3), np.uint8), 16))
    assert MAX_TILES // 2 <= count <= MAX_TILES


def test_a_small_picture_is_reflected_around_its_middle():
    pixels = np.zeros((16, 10, 3), np.uint8)
    pixels[:, :, 0] = np.arange(10)
    row = cover(pixels, 16)[0, 0, :, 0]
    assert row.tolist() == [3, 2, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 8, 7, 6]
