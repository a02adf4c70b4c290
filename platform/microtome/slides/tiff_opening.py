"""Open a slide with the direct reader, if it is sure of it."""

from __future__ import annotations

from microtome.config import MppSettings
from microtome.slides.content import SlideFiles
from microtome.slides.facts import believable_objective, check_levels, kept_properties, resolution
from microtome.slides.slide import Level, Slide
from microtome.slides.tiff_flavours import TiffLayout, read_layout
from microtome.slides.tiff_headers import HeaderPages
from microtome.slides.tiff_reader import CACHE_BYTES, TiffReader
from microtome.slides.tiff_source import ByteSource

READER = "tiff"

_FORMATS = {"aperio": "svs", "ome": "ome-tiff"}


def open_tiff(
    files: SlideFiles, source: ByteSource, mpp: MppSettings, cache_bytes: int = CACHE_BYTES
) -> TiffReader:
    """Open a tiled TIFF slide for direct reading.

    Args:
        files: the slide's identity.
        source: its bytes; closed with the reader, or here if it isn't opened.
        mpp: who may say how large a pixel is where the slide doesn't.
        cache_bytes: decoded tiles kept in memory.

    Raises:
        LeftToOpenSlide: no tiled TIFF, or one that this reader isn't sure of; try OpenSlide.
        SlideTruncated, SlideUnreadable: the file is damaged.
        SlideImplausible, SlideWithoutMpp: the header can't be worked with.
    """
    try:
        layout = read_layout(HeaderPages(source))
        return TiffReader(_slide(files, layout, mpp), layout.levels, source, cache_bytes)
    except BaseException:
        source.close()
        raise


def _slide(files: SlideFiles, layout: TiffLayout, settings: MppSettings) -> Slide:
    ref, properties = files.ref, layout.properties
    levels = tuple(
        Level(one.width_px, one.height_px, one.downsample, one.encoding.reductions)
        for one in layout.levels
    )
    check_levels(ref, levels)
    mpp_x, mpp_y, objective = (
        float(properties[name]) if name in properties else None
        for name in ("openslide.mpp-x", "openslide.mpp-y", "openslide.objective-power")
    )
    mpp, source = resolution(ref, (mpp_x, mpp_y), believable_objective(objective), settings)
    return Slide(
        slide_id=ref.slide_id,
        uri=ref.uri,
        content_id=files.content_id,
        size_bytes=files.size_bytes,
        format=_FORMATS.get(layout.vendor, "tiff"),
        vendor=layout.vendor,
        reader=READER,
        levels=levels,
        mpp=mpp,
        mpp_source=source,
        objective=believable_objective(objective),
        properties=kept_properties(properties),
    )
