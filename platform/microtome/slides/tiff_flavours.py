"""Which kind of TIFF slide a file is, which of its directories are levels, what its header says.

Facts go by OpenSlide's property names, so that one rule makes a slide of them whoever read them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from xml.etree import ElementTree

from microtome.slides import tiff_tags as tag
from microtome.slides.tiff_directory import Directory, NotTiff, read_directories
from microtome.slides.tiff_layout import (
    LeftToOpenSlide,
    TiledImage,
    has_missing_tiles,
    tiled_image,
)
from microtome.slides.tiff_source import ByteSource

_MPP_X, _MPP_Y = "openslide.mpp-x", "openslide.mpp-y"
_OBJECTIVE = "openslide.objective-power"

_UM_PER_UNIT = {"µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6}
_UM_PER_RESOLUTION_UNIT = {tag.INCH: 25_400.0, tag.CENTIMETRE: 10_000.0}


@dataclass(frozen=True, slots=True)
class TiffLayout:
    """All that a reader needs to know of a TIFF slide.

    Attributes:
        vendor: `aperio`, `philips`, `ome` or `generic-tiff`.
        levels: finest first.
        properties: facts by OpenSlide's property names; may hold what must not be kept.
    """

    vendor: str
    levels: tuple[TiledImage, ...]
    properties: Mapping[str, str]


def read_layout(source: ByteSource) -> TiffLayout:
    """Read the layout of a tiled TIFF slide; no pixels are decoded.

    Raises:
        LeftToOpenSlide: no TIFF, or not plainly one of the kinds that are read directly.
        SlideUnreadable: the file's structure is broken.
        SlideTruncated: the structure points past the end of the file.
    """
    try:
        directories = read_directories(source)
    except NotTiff:
        raise LeftToOpenSlide("not a TIFF") from None
    if not directories or tag.TILE_WIDTH not in directories[0]:
        raise LeftToOpenSlide("its first image isn't tiled")
    first = directories[0]
    description = first.text(tag.IMAGE_DESCRIPTION)
    vendor, rule = _flavour(first, description)
    levels, facts = rule(directories, description)
    return TiffLayout(vendor, _pyramid(levels), {"openslide.vendor": vendor, **facts})


_Found = tuple[list[TiledImage], dict[str, str]]
_Rule = Callable[[Sequence[Directory], str], _Found]


def _flavour(first: Directory, description: str) -> tuple[str, _Rule]:
    """The vendors that OpenSlide would see in this file, in its order."""
    software = first.text(tag.SOFTWARE)
    if tag.NDPI_VERSION in first:
        raise LeftToOpenSlide("a Hamamatsu slide")
    if software.startswith("MedScan"):
        raise LeftToOpenSlide("a Trestle slide, whose tiles overlap")
    if description.startswith("Aperio"):
        return "aperio", _aperio
    if "www.leica-microsystems.com/scn" in description:
        raise LeftToOpenSlide("a Leica slide, several scans in one file")
    if software.startswith("Philips") and "DPUfsImport" in description:
        return "philips", _philips
    if b"iScan" in first.data(tag.XMP):
        raise LeftToOpenSlide("a Ventana slide, whose tiles overlap")
    if "<OME" in description[:4096]:
        return "ome", _ome
    return "generic-tiff", _generic


def _aperio(directories: Sequence[Directory], description: str) -> _Found:
    levels = [tiled_image(d) for d in directories if tag.TILE_WIDTH in d]
    if len(levels) > 1 and has_missing_tiles(levels):
        raise LeftToOpenSlide("missing tiles, which Aperio means to be filled from other levels")
    facts = {}
    for pair in description.split("|")[1:]:
        name, _, value = pair.partition("=")
        facts[f"aperio.{name.strip()}"] = value.strip()
    facts |= _numbers({_OBJECTIVE: facts.get("aperio.AppMag", "")})
    facts |= _numbers(dict.fromkeys((_MPP_X, _MPP_Y), facts.get("aperio.MPP", "")))
    return levels, facts


def _generic(directories: Sequence[Directory], description: str) -> _Found:
    levels = [tiled_image(d) for d in _first_and_reduced(directories)]
    levels.sort(key=lambda level: -level.width_px)
    first = directories[0]
    unit_um = _UM_PER_RESOLUTION_UNIT.get(first.number(tag.RESOLUTION_UNIT, tag.INCH), 0.0)
    facts = {}
    for name, one in ((_MPP_X, tag.X_RESOLUTION), (_MPP_Y, tag.Y_RESOLUTION)):
        per_unit = first.ratio(one)
        if unit_um and math.isfinite(per_unit) and per_unit > 0:
            facts[name] = f"{unit_um / per_unit:.17g}"
    return levels, facts


def _ome(directories: Sequence[Directory], description: str) -> _Found:
    image = _xml(description).find("{*}Image")
    pixels = None if image is None else image.find("{*}Pixels")
    if pixels is None:
        raise LeftToOpenSlide("OME-XML without an image")
    first = directories[0]
    size = {"SizeX": first.number(tag.WIDTH), "SizeY": first.number(tag.HEIGHT)}
    wanted = {**size, "SizeC": 3, "SizeZ": 1, "SizeT": 1, "Type": "uint8"}
    if any(pixels.get(name) != str(value) for name, value in wanted.items()):
        raise LeftToOpenSlide("an OME image that isn't one plane of RGB")
    if any(data.get("IFD", "0") != "0" for data in pixels.findall("{*}TiffData")[:1]):
        raise LeftToOpenSlide("an OME image that isn't the file's first")
    levels = [tiled_image(d, jfif_decides=True) for d in (first, *first.children(tag.SUB_IFDS))]
    return levels, _ome_facts(pixels)


def _ome_facts(pixels: ElementTree.Element) -> dict[str, str]:
    facts = {}
    for name, axis in ((_MPP_X, "X"), (_MPP_Y, "Y")):
        unit = _UM_PER_UNIT.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        for value in _numbers({name: pixels.get(f"PhysicalSize{axis}", "")}).values():
            if unit is not None:
                facts[name] = f"{float(value) * unit:.17g}"
    return facts


def _philips(directories: Sequence[Directory], description: str) -> _Found:
    scans = [
        scan
        for scan in _xml(description).findall(
            "./Attribute[@Name='PIM_DP_SCANNED_IMAGES']/Array/DataObject"
        )
        if scan.findtext("./Attribute[@Name='PIM_DP_IMAGE_TYPE']") == "WSI"
    ]
    if len(scans) != 1:
        raise LeftToOpenSlide(f"a Philips slide of {len(scans)} scans")
    spacings = [
        _philips_spacing_mm(spacing.text or "")
        for spacing in scans[0].findall(
            "./Attribute[@Name='PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE']/Array"
            "/DataObject[@ObjectType='PixelDataRepresentation']"
            "/Attribute[@Name='DICOM_PIXEL_SPACING']"
        )
    ]
    levels = [tiled_image(d) for d in _first_and_reduced(directories)]
    if len(spacings) != len(levels):
        raise LeftToOpenSlide(f"{len(spacings)} pixel spacings for {len(levels)} levels")
    facts = {}
    if spacing := scans[0].findtext("./Attribute[@Name='DICOM_PIXEL_SPACING']"):
        across_mm, down_mm = _philips_spacing_mm(spacing)
        facts = {_MPP_X: f"{1e3 * across_mm:.17g}", _MPP_Y: f"{1e3 * down_mm:.17g}"}
    return [
        _philips_level(levels[0], level, spacings[0], own)
        for level, own in zip(levels, spacings, strict=True)
    ], facts


def _philips_level(
    first: TiledImage, level: TiledImage, first_mm: tuple[float, float], own_mm: tuple[float, float]
) -> TiledImage:
    """The level without its padding, which the header counts to its size."""
    downsample = round((own_mm[0] / first_mm[0] + own_mm[1] / first_mm[1]) / 2)
    if downsample < 1:
        raise LeftToOpenSlide("pixel spacings that shrink")
    width, height = first.width_px // downsample, first.height_px // downsample
    if level is first:
        return first
    if not (0 < width <= level.width_px and 0 < height <= level.height_px):
        raise LeftToOpenSlide("levels smaller than their pixel spacing says")
    return replace(level, width_px=width, height_px=height, downsample=float(downsample))


def _philips_spacing_mm(text: str) -> tuple[float, float]:
    """Across and down, from `"down" "across"` in millimetres."""
    try:
        down, across = (float(part) for part in text.replace('"', " ").split())
    except ValueError:
        raise LeftToOpenSlide("a pixel spacing that isn't two numbers") from None
    if not (0 < down < math.inf and 0 < across < math.inf):
        raise LeftToOpenSlide(f"a pixel spacing of {text}")
    return across, down


def _first_and_reduced(directories: Sequence[Directory]) -> list[Directory]:
    return [
        d
        for index, d in enumerate(directories)
        if tag.TILE_WIDTH in d and (not index or d.number(tag.NEW_SUBFILE_TYPE) & tag.REDUCED)
    ]


def _pyramid(levels: Sequence[TiledImage]) -> tuple[TiledImage, ...]:
    """Levels with their downsamples, the mean of both sides' as OpenSlide has it.

    Raises:
        LeftToOpenSlide: they don't grow smaller, or one has other proportions, so another content.
    """
    first, pyramid = levels[0], []
    for level in levels:
        across, down = first.width_px / level.width_px, first.height_px / level.height_px
        # A side may have been rounded by a pixel or two at each halving.
        if abs(across / down - 1) > 0.01 + 2 / min(level.width_px, level.height_px):
            raise LeftToOpenSlide("levels of different proportions")
        known = level.downsample if level.downsample > 1 else (across + down) / 2
        pyramid.append(replace(level, downsample=known))
    steps = [level.downsample for level in pyramid]
    if any(after <= before for before, after in pairwise(steps)):
        raise LeftToOpenSlide("levels that don't grow smaller")
    return tuple(pyramid)


def _numbers(texts: Mapping[str, str]) -> dict[str, str]:
    """Those facts that are positive numbers; a decimal comma is one of the vendors' habits."""
    facts = {}
    for name, text in texts.items():
        try:
            value = float(text.replace(",", "."))
        except ValueError:
            continue
        if 0 < value < math.inf:
            facts[name] = f"{value:.17g}"
    return facts


def _xml(text: str) -> ElementTree.Element:
    """The root of a header's XML; entities could grow without bound, and no scanner writes any."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise LeftToOpenSlide("XML with a document type")
    try:
        return ElementTree.fromstring(text.encode())  # noqa: S314 (no entities, see above)
    except ElementTree.ParseError as error:
        raise LeftToOpenSlide(f"broken XML: {error}") from None
