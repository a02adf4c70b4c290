"""From a sample's row to RGB pixels, on any machine that can see its file."""

from __future__ import annotations

import io
import posixpath
import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import numpy as np
from PIL import Image, ImageOps

from microtome.config import GridSettings, MppSettings
from microtome.datasets.arrays import as_rgb, npy_row, opened_hdf5
from microtome.errors import ImageUnreadable, SlideError
from microtome.slides.opening import open_slide
from microtome.slides.slide import Pixels, SlideReader, SlideRef
from microtome.slides.storage import explained, filesystem_of, is_remote
from microtome.tiles.reading import ReadPlan, read_tile

FORMATS: Final = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "JPEG2000", "PPM")
"""Named ones only: Pillow would hand others to outside programs (EPS) or fetch plug-ins."""

_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
)
_REMEDY = "Copy it again from its source, or take it out of the set."


def read_image(sample: Mapping[str, Any]) -> Pixels:
    """Read the picture of one sample.

    Args:
        sample: a row of `SAMPLES` with None for null, as Arrow's `to_pylist` and Ray Data's rows
            give it; columns that are null may be left out.

    Returns:
        (height, width, 3) uint8 RGB, which may not be writable.

    Raises:
        ImageUnreadable: it is gone, cut short, broken, no image, or on a slide that was exchanged
            since the set was made.
        SettingError: its URI holds a secret, or no reader for its protocol is installed.
    """
    shown = shown_name(sample)
    with explained(shown, missing=ImageUnreadable, refused=ImageUnreadable):
        pixels = _pixels(sample, shown)
    return np.ascontiguousarray(pixels[..., ::-1]) if sample.get("bgr") else pixels


def shown_name(sample: Mapping[str, Any]) -> str:
    """A sample as messages name it: its URI, or its file and folder, and where in the file."""
    uri = sample["uri"]
    name = uri if is_remote(uri) else posixpath.join(*uri.split("/")[-2:])
    region = sample.get("region") or {}
    places = [sample.get(key) for key in ("part", "index", "offset")]
    places += [f"{region['x']},{region['y']}"] if region else []
    return "#".join([name, *(str(place) for place in places if place is not None)])


def decode(data: bytes, shown: str) -> Pixels:
    """Decode an image file, as a viewer would show it.

    Raises:
        ImageUnreadable: no image, a broken one, or one of more than 178 megapixels.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return rgb_pixels(image, shown)
    except _BROKEN:
        raise ImageUnreadable(
            f"{shown} is no image that can be read, or is cut short", remedy=_REMEDY
        ) from None


def rgb_pixels(image: Image.Image, shown: str) -> Pixels:
    """Pixels of a picture that Pillow opened, turned as its camera says.

    8 bits a sample, 65535 becomes 255, and white where it is transparent.

    Raises:
        ImageUnreadable: its samples have 32 bits.
        OSError, SyntaxError, ValueError: or whatever else Pillow raises of a broken file.
    """
    return np.asarray(_as_rgb(ImageOps.exif_transpose(image), shown))


def _as_rgb(image: Image.Image, shown: str) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        grey = np.clip(np.asarray(image).astype(np.float32), 0, 65535)
        return Image.fromarray(np.rint(grey / 257).astype(np.uint8)).convert("RGB")
    if image.mode in {"I", "F"}:
        raise ImageUnreadable(
            f"{shown} has 32-bit samples, whose white nobody knows",
            remedy="Save it with 8 or 16 bits a sample.",
        )
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _pixels(sample: Mapping[str, Any], shown: str) -> Pixels:
    try:
        if sample.get("part") is not None:
            return _of_hdf5(sample)
        if sample.get("index") is not None:
            return as_rgb(npy_row(sample["uri"], sample["index"]))
    except (ValueError, KeyError) as error:
        raise ImageUnreadable(f"{shown} is no picture: {error}", remedy=_REMEDY) from None
    if sample.get("region") is not None:
        return _of_slide(sample, shown)
    filesystem, path = filesystem_of(sample["uri"])
    start = sample.get("offset")
    end = None if start is None else start + sample["size"]
    return decode(filesystem.cat_file(path, start=start, end=end), shown)


def _of_hdf5(sample: Mapping[str, Any]) -> Pixels:
    array = opened_hdf5(sample["uri"])[sample["part"]]
    if region := sample.get("region"):
        x, y, side = region["x"], region["y"], region["tile_px"]
        return as_rgb(array[y : y + side, x : x + side])
    return as_rgb(array[sample["index"]])


def _of_slide(sample: Mapping[str, Any], shown: str) -> Pixels:
    region = sample["region"]
    try:
        reader = _opened_slide(sample["uri"], region["slide_mpp"])
        if reader.slide.content_id != region["content_id"]:
            raise ImageUnreadable(
                f"the slide of {shown} has changed since it was indexed", remedy="Index it again."
            )
        side = region["tile_px"]
        plan = ReadPlan.of(reader.slide, GridSettings(region["mpp"], side, side))
        return read_tile(reader, plan, region["x"], region["y"])
    except SlideError as error:
        raise ImageUnreadable(error.message, remedy=error.remedy) from None


@lru_cache(maxsize=16)
def _opened_slide(uri: str, mpp: float) -> SlideReader:
    """Kept open by this process: a slide's tiles are mostly asked for one after the other."""
    name = uri if is_remote(uri) else posixpath.basename(uri)
    return open_slide(SlideRef(name, uri, mpp=mpp), MppSettings())
