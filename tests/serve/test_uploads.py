"""Uploaded pictures: refused by their first bytes, before anything is decoded."""

from __future__ import annotations

import asyncio
import io
import time

import numpy as np
import pytest
from fastapi import UploadFile
from PIL import Image

from microtome.errors import QueryUnreadable, RequestTooLarge
from microtome.search.picture import load_image
from microtome_serve.limits import Limits
from microtome_serve.uploads import image_queries
from support.odd_pictures import PINK, bomb, encoded, tiff_of_many_pages


def queries(*pictures: bytes, limits: Limits | None = None):
    files = [UploadFile(io.BytesIO(one), filename="../../etc/passwd") for one in pictures]
    return asyncio.run(image_queries(files, limits or Limits()))


GREY16 = Image.fromarray(np.full((20, 20), 40_000, np.uint16))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encoded(Image.new("RGB", (20, 20), PINK)), PINK),
        (encoded(Image.new("CMYK", (20, 20), (0, 128, 64, 0)), "JPEG", quality=95), None),
        (encoded(Image.new("L", (20, 20), 90)), (90, 90, 90)),
        (encoded(GREY16), (156, 156, 156)),
        (encoded(Image.new("LA", (20, 20), (90, 0))), (255, 255, 255)),
        (encoded(Image.new("P", (20, 20), 0)), (0, 0, 0)),
        (encoded(Image.new("RGB", (20, 20), PINK), "WEBP", lossless=True), PINK),
    ],
    ids=["rgb", "cmyk", "grey", "16-bit", "transparent", "palette", "webp"],
)
def test_pictures_of_any_kind_become_rgb(data, expected):
    (query,) = queries(data)
    pixels = load_image(query)
    assert (pixels.shape, pixels.dtype) == ((20, 20, 3), np.uint8)
    if expected is not None:
        assert tuple(pixels[10, 10]) == expected


ANIMATION = {"save_all": True, "append_images": [Image.new("RGB", (20, 20), "blue")]}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no image"),
        (b"hello", "no image"),
        (b"<svg/>", "no image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "no image"),
        (encoded(Image.new("RGB", (20, 20))) [:20], "no image"),
        (encoded(Image.new("RGB", (20, 20)), "GIF", **ANIMATION), "no image"),
        (encoded(Image.new("RGB", (20, 20)), "PNG", **ANIMATION), "several pictures"),
        (encoded(Image.new("RGB", (20, 20)), "WEBP", **ANIMATION), "several pictures"),
        (encoded(Image.new("RGB", (20, 20)), "TIFF", **ANIMATION), "several pictures"),
        (bomb(50_000), "far beyond"),
        (bomb(5000), "5000 × 5000 pixels beyond the 16 megapixels"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_by_its_place_and_not_by_its_name(data, said):
    good = encoded(Image.new("RGB", (20, 20)))
    with pytest.raises(QueryUnreadable, match=said) as refused:
        queries(good, data)
    assert "picture 2" in refused.value.message
    assert "passwd" not in str(refused.value)


def test_a_truncated_picture_is_refused_once_it_is_decoded():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    (query,) = queries(encoded(Image.fromarray(noise))[:-2000])
    with pytest.raises(QueryUnreadable, match="picture 1"):
        load_image(query)


def test_a_tiff_of_a_million_pages_is_refused_at_once():
    data = tiff_of_many_pages(100_000)
    began = time.process_time()
    with pytest.raises(QueryUnreadable, match="several"):
        queries(data)
    assert time.process_time() - began < 0.5


def test_pixels_are_limited_as_the_server_says():
    picture = encoded(Image.new("RGB", (20, 20)))
    assert queries(picture, limits=Limits(pixels=400))
    with pytest.raises(QueryUnreadable, match="20 × 20"):
        queries(picture, limits=Limits(pixels=399))


def test_too_many_pictures_are_refused():
    picture = encoded(Image.new("RGB", (20, 20)))
    assert len(queries(picture, picture, limits=Limits(images=2))) == 2
    with pytest.raises(RequestTooLarge, match="3 pictures"):
        queries(picture, picture, picture, limits=Limits(images=2))
