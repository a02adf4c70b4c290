"""From a sample's row to RGB pixels, on any machine that can see its file."""

from __future__ import annotations

import io
import posixpath
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from PIL import Image, ImageOps

from microtome.errors import ImageUnreadable
from microtome.slides.slide import Pixels
from microtome.slides.storage import explained, filesystem_of, is_remote

# Named ones only: Pillow would hand others to outside programs (EPS) or fetch plug-ins.
FORMATS: Final = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "JPEG2000", "PPM")
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


def read_image(sample: Mapping[str, Any]) -> Pixels:
    """Read the picture of one sample.

    Args:
        sample: a row of `SAMPLES` with None for null, as Arrow's `to_pylist` and Ray Data's rows
            give it.

    Returns:
        (height, width, 3) uint8 RGB.

    Raises:
        ImageUnreadable: it is gone, cut short, broken, or no image.
    """
    shown = shown_name(sample)
    with explained(shown, missing=ImageUnreadable, refused=ImageUnreadable):
        filesystem, path = filesystem_of(sample["uri"])
        start = sample.get("offset")
        end = None if start is None else start + sample["size"]
        data = filesystem.cat_file(path, start=start, end=end)
    pixels = decode(data, shown)
    return pixels[..., ::-1] if sample.get("bgr") else pixels


def shown_name(sample: Mapping[str, Any]) -> str:
    """A sample as messages name it: the URI, or a file and its folder."""
    uri = sample["uri"]
    name = uri if is_remote(uri) else "/".join(uri.split(posixpath.sep)[-2:])
    places = (sample.get(key) for key in ("part", "index", "offset"))
    return "#".join([name, *(str(place) for place in places if place is not None)])


def decode(data: bytes, shown: str) -> Pixels:
    """Decode an image file, as a viewer would show it.

    Raises:
        ImageUnreadable: no image, or a broken one.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except _BROKEN:
        raise ImageUnreadable(
            f"{shown} is no image that can be read, or is cut short",
            remedy="Copy it again from its source, or take it out of the set.",
        ) from None
