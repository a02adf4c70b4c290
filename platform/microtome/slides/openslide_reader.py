"""The reader for all that OpenSlide reads: SVS, NDPI, MRXS, SCN, BIF, VMS, DICOM, tiled TIFF."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Self

import numpy as np
from openslide import OpenSlide, OpenSlideError
from PIL import Image

from microtome.config import MppSettings
from microtome.errors import TileReadFailed
from microtome.slides.content import SlideFiles
from microtome.slides.facts import believable_objective, check_levels, kept_properties, resolution
from microtome.slides.listing import extension
from microtome.slides.slide import Level, Pixels, Slide
from microtome.slides.staging import LocalSlide

_FORMATS = {
    "aperio": "svs",
    "dicom": "dicom",
    "generic-tiff": "tiff",
    "leica": "scn",
    "mirax": "mrxs",
    "philips": "tiff",
    "sakura": "svslide",
    "trestle": "tiff",
    "ventana": "bif",
}


class OpenSlideReader:
    """A slide opened by OpenSlide; see `SlideReader`.

    Args:
        files: the slide's identity.
        local: the slide on this machine; discarded on close.
        mpp: who may say how large a pixel is where the slide doesn't.

    Raises:
        openslide.OpenSlideError: OpenSlide doesn't take the file.
        SlideImplausible, SlideWithoutMpp: see `facts`.
    """

    def __init__(self, files: SlideFiles, local: LocalSlide, mpp: MppSettings) -> None:
        self._local = local
        self._read_before = _bytes_read_by_process()
        self._lock = Lock()
        self._handle: OpenSlide | None = OpenSlide(local.path)
        self._slide = _facts(self._handle, files, mpp)

    @property
    def slide(self) -> Slide:
        """The header's facts."""
        return self._slide

    @property
    def bytes_read(self) -> int:
        """Bytes taken from the file or store so far.

        For a slide from a store, the bytes copied here: 0 where the copy lay here already. Else
        what the whole process has read since the slide was opened (OpenSlide doesn't count): too
        high where it reads other files meanwhile, and 0 where the system has no /proc.
        """
        if self._local.is_copy:
            return self._local.bytes_copied
        return _bytes_read_by_process() - self._read_before

    def read_region(self, x: int, y: int, level: int, width_px: int, height_px: int) -> Pixels:
        """Read a rectangle of one level, see `SlideReader.read_region`."""
        if not 0 <= level < len(self._slide.levels) or width_px < 1 or height_px < 1:
            raise ValueError(f"no region of {width_px} × {height_px} px at level {level}")
        handle = self._handle
        if handle is None:
            raise ValueError(f"{self._slide.slide_id} is closed")
        try:
            region = handle.read_region((x, y), level, (width_px, height_px))
        except OpenSlideError as error:
            self._renew(handle)
            raise TileReadFailed(
                f"{self._slide.slide_id}: {width_px} × {height_px} px at ({x}, {y}) of level "
                f"{level} can't be decoded: {said(error, self._local.path)}",
                remedy="The slide is damaged there; copy it again from where it was scanned.",
            ) from None
        return _on_white(region)

    def close(self) -> None:
        """Release the file; a read that runs in another thread ends well."""
        self._handle = None
        self._local.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _renew(self, failed: OpenSlide) -> None:
        """Open the file again: after one failure OpenSlide refuses every read of that handle.

        The old handle is left to its last user: closing it under a read would crash the process.
        """
        with self._lock:
            if self._handle is failed:
                self._handle = OpenSlide(self._local.path)


def said(error: OpenSlideError, path: str) -> str:
    """OpenSlide's own words, without this machine's folders."""
    return str(error).replace(path, Path(path).name).rstrip(".")


def _facts(handle: OpenSlide, files: SlideFiles, settings: MppSettings) -> Slide:
    ref = files.ref
    properties = handle.properties
    levels = tuple(
        Level(width, height, downsample)
        for (width, height), downsample in zip(
            handle.level_dimensions, handle.level_downsamples, strict=True
        )
    )
    check_levels(ref, levels)
    stated = (_number(properties, "openslide.mpp-x"), _number(properties, "openslide.mpp-y"))
    objective = believable_objective(_number(properties, "openslide.objective-power"))
    mpp, source = resolution(ref, stated, objective, settings)
    vendor = properties.get("openslide.vendor", "unknown")
    return Slide(
        slide_id=ref.slide_id,
        uri=ref.uri,
        content_id=files.content_id,
        size_bytes=files.size_bytes,
        format=_FORMATS.get(vendor, extension(ref.uri)),
        vendor=vendor,
        reader="openslide",
        levels=levels,
        mpp=mpp,
        mpp_source=source,
        objective=objective,
        properties=kept_properties(properties),
    )


def _number(properties: Mapping[str, str], name: str) -> float | None:
    try:
        return float(properties[name])
    except (KeyError, ValueError):
        return None


def _on_white(region: Image.Image) -> Pixels:
    """RGB of an RGBA region; where the slide holds no pixels it is transparent."""
    alpha = region.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return np.array(region.convert("RGB"))
    canvas = Image.new("RGB", region.size, "white")
    canvas.paste(region, mask=alpha)
    return np.array(canvas)


def _bytes_read_by_process() -> int:
    """What this process has read so far by any call; 0 where the system doesn't say."""
    try:
        status = Path("/proc/self/io").read_text(encoding="ascii")
    except OSError:
        return 0
    return int(status.partition("rchar: ")[2].partition("\n")[0] or 0)
