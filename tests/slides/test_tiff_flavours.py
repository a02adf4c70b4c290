"""Which files the direct reader takes, and what it reads from their headers: as OpenSlide does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from openslide import OpenSlide

from microtome.config import MppSettings
from microtome.errors import SlideImplausible, SlideWithoutMpp
from microtome.slides.content import SlideFiles
from microtome.slides.slide import SlideRef
from microtome.slides.tiff_flavours import TiffLayout, read_layout
from microtome.slides.tiff_layout import LeftToOpenSlide
from microtome.slides.tiff_opening import open_tiff
from microtome.slides.tiff_reader import TiffReader
from microtome.slides.tiff_source import LocalFile
from support.made_tiffs import Kind, halved, overwrite_tag, picture, write_ome, write_tiff

TILE_BYTE_COUNTS, ORIENTATION = 325, 274
PIXELS = picture(100, 150)


def layout_of(path: Path) -> TiffLayout:
    with LocalFile(str(path), "some") as source:
        return read_layout(source)


def opened(path: Path, assume_mpp: float | None = None) -> TiffReader:
    files = SlideFiles(SlideRef("some", str(path)), (str(path),), "id", path.stat().st_size)
    return open_tiff(files, LocalFile(str(path), "some"), MppSettings(assume_mpp))


def described(text: str) -> Kind:
    return Kind(header={"description": text})


@pytest.mark.parametrize(
    "kind",
    [
        described("Aperio x|AppMag = 40|MPP = 0.2520"),
        described("Aperio x|AppMag = 40.0|MPP = 0,25"),
        described("Aperio x|MPP = -1|AppMag = many"),
        described("Aperio x|MPP|AppMag = 20 = 40"),
        described("Aperio x"),
        Kind(header={"resolution": (40_000, 20_000), "resolutionunit": "CENTIMETER"}),
        Kind(header={"resolution": (50_800, 50_800), "resolutionunit": "INCH"}),
        Kind(header={"resolution": (50_800, 50_800), "resolutionunit": "NONE"}),
        Kind(header={"resolution": (0, 0), "resolutionunit": "INCH"}),
        Kind(),
    ],
)
def test_resolution_and_objective_are_openslides(tmp_path: Path, kind: Kind) -> None:
    path = write_tiff(tmp_path / "some.tif", [PIXELS], kind)
    ours = layout_of(path).properties
    with OpenSlide(path) as slide:
        for name in ("openslide.vendor", "openslide.mpp-x", "openslide.mpp-y"):
            assert _plain(ours.get(name)) == _plain(slide.properties.get(name)), name
        power = slide.properties.get("openslide.objective-power")
        assert ours.get("openslide.objective-power") == power


def test_an_aperio_header_is_kept_without_names_and_dates(tmp_path: Path) -> None:
    header = "Aperio x|AppMag = 20|MPP = 0.5|User = Doe, Jane|Date = 12/29/09|Filename = 4711"
    with opened(write_tiff(tmp_path / "some.svs", [PIXELS], described(header))) as reader:
        slide = reader.slide
    assert (slide.format, slide.vendor, slide.reader) == ("svs", "aperio", "tiff")
    assert (slide.mpp, slide.mpp_source, slide.objective) == (0.5, "slide", 20.0)
    assert not {"Doe", "Jane", "12/29/09", "4711"} & set(
        " ".join(slide.properties.values()).split()
    )


@pytest.mark.parametrize(
    ("pixels", "mpp"),
    [
        ({"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}, 0.25),
        ({"PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}, 0.25),
        ({"PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm"}, 0.25),
        ({"PhysicalSizeX": 0.00025, "PhysicalSizeXUnit": "mm"}, 0.25),
        ({"PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "pixel"}, None),
        ({"PhysicalSizeX": None}, None),
        ({"PhysicalSizeX": "wide"}, None),
    ],
)
def test_ome_says_its_pixel_size_in_a_unit(
    tmp_path: Path, pixels: dict[str, Any], mpp: float | None
) -> None:
    path = write_ome(tmp_path / "some.ome.tif", [PIXELS], **pixels)
    if mpp is None:
        with pytest.raises(SlideWithoutMpp):
            opened(path)
    else:
        with opened(path) as reader:
            assert reader.slide.mpp == pytest.approx(mpp)


@pytest.mark.parametrize(
    "pixels",
    [{"SizeZ": 3}, {"SizeC": 4}, {"SizeT": 2}, {"Type": "uint16"}, {"SizeX": 151}, {"SizeY": None}],
)
def test_ome_of_anything_but_one_plane_of_rgb_is_left(
    tmp_path: Path, pixels: dict[str, Any]
) -> None:
    with pytest.raises(LeftToOpenSlide, match="one plane"):
        layout_of(write_ome(tmp_path / "some.ome.tif", [PIXELS], **pixels))


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (
            described("<?xml?><scn xmlns='http://www.leica-microsystems.com/scn/2010/10/01'>"),
            "Leica",
        ),
        (Kind(header={"software": "MedScan 1"}), "Trestle"),
        (Kind(header={"extratags": [(700, 1, 5, b"iScan", True)]}), "Ventana"),
        (Kind(header={"extratags": [(65420, 4, 1, 1, True)]}), "Hamamatsu"),
        (described("<?xml version='1.0'?><OME><Image>"), "broken XML"),
        (described("<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a 'a'>]><OME/>"), "document type"),
        (Kind(compression="zstd"), "compression 50000"),
    ],
)
def test_what_others_read_better_is_left_to_them(tmp_path: Path, kind: Kind, says: str) -> None:
    with pytest.raises(LeftToOpenSlide, match=says):
        layout_of(write_tiff(tmp_path / "some.tif", [PIXELS], kind))


def test_a_turned_image_is_left(tmp_path: Path) -> None:
    kind = Kind(header={"extratags": [(ORIENTATION, 3, 1, 3, True)]})
    with pytest.raises(LeftToOpenSlide, match=f"tag {ORIENTATION} is 3"):
        layout_of(write_tiff(tmp_path / "some.tif", [PIXELS], kind))


@pytest.mark.parametrize(
    ("samples", "dtype", "says"),
    [
        ((), "u1", "tag 277 is 1"),
        ((4,), "u1", "tag 277 is 4"),
        ((3,), "i1", "tag 339 is 2"),
        ((3,), "u2", "aren't of 8 bits"),
    ],
)
def test_anything_but_rgb_of_8_bits_is_left(
    tmp_path: Path, samples: tuple[int, ...], dtype: str, says: str
) -> None:
    path = tmp_path / "some.tif"
    photometric = "rgb" if samples else "minisblack"
    pixels = np.ones((100, 150, *samples), dtype)
    tifffile.imwrite(path, pixels, tile=(64, 64), photometric=photometric)
    with pytest.raises(LeftToOpenSlide, match=says):
        layout_of(path)


def test_aperio_slides_with_missing_tiles_are_left(tmp_path: Path) -> None:
    """OpenSlide fills those from the level above."""
    kind = described("Aperio x|MPP = 0.5")
    path = write_tiff(tmp_path / "some.svs", [PIXELS, halved(PIXELS)], kind)
    overwrite_tag(path, TILE_BYTE_COUNTS, lambda values: [0, *values[1:]])
    with pytest.raises(LeftToOpenSlide, match="missing tiles"):
        layout_of(path)


def test_a_level_of_other_proportions_is_left(tmp_path: Path) -> None:
    """It may be a picture of the label."""
    path = write_tiff(tmp_path / "some.tif", [PIXELS, picture(50, 50)])
    with pytest.raises(LeftToOpenSlide, match="proportions"):
        layout_of(path)


@pytest.mark.parametrize("content", [b"", b"II", b"II*\0", b"text " * 9, b"\xff\xd8\xff" * 20])
def test_what_is_no_tiff_is_left(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "some"
    path.write_bytes(content)
    with pytest.raises(LeftToOpenSlide):
        layout_of(path)


@pytest.mark.parametrize("name", ["test3-DAPI.ndpi", "small_vectra.qptiff", "broken.svs"])
def test_real_files_of_other_kinds_are_left(real_data: Path, name: str) -> None:
    with pytest.raises(LeftToOpenSlide):
        layout_of(real_data / "wsi" / name)


PHILIPS = """<?xml version="1.0" encoding="UTF-8" ?>
<DataObject ObjectType="DPUfsImport"><Attribute Name="PIM_DP_SCANNED_IMAGES"><Array>
<DataObject ObjectType="DPScannedImage">
<Attribute Name="PIM_DP_IMAGE_TYPE">WSI</Attribute>
<Attribute Name="DICOM_PIXEL_SPACING">"0.000226891" "0.000226907"</Attribute>
<Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE"><Array>{levels}</Array></Attribute>
</DataObject></Array></Attribute></DataObject>"""
PHILIPS_LEVEL = """<DataObject ObjectType="PixelDataRepresentation">
<Attribute Name="DICOM_PIXEL_SPACING">"{0}" "{0}"</Attribute></DataObject>"""


def philips(path: Path, levels: list[np.ndarray], spacings: list[float]) -> Path:
    xml = PHILIPS.format(levels="".join(PHILIPS_LEVEL.format(one) for one in spacings))
    header = {"description": xml, "software": "Philips DP v1.0"}
    return write_tiff(path, levels, Kind(header=header))


def test_philips_levels_are_cropped_to_their_spacing(tmp_path: Path) -> None:
    """Levels padded to whole tiles: of 128 px of level 1, half of level 0 are 96."""
    levels = [picture(128, 192), picture(64, 128), picture(64, 64)]
    path = philips(tmp_path / "some.tiff", levels, [0.000227, 0.000454, 0.000908])
    with opened(path) as reader, OpenSlide(path) as slide:
        assert slide.properties["openslide.vendor"] == reader.slide.vendor == "philips"
        for axis, own in zip("xy", (0.226907, 0.226891), strict=True):
            assert float(slide.properties[f"openslide.mpp-{axis}"]) == pytest.approx(own)
        assert reader.slide.mpp == pytest.approx(0.226899)
        sizes = tuple((one.width_px, one.height_px) for one in reader.slide.levels)
        assert sizes == slide.level_dimensions == ((192, 128), (96, 64), (48, 32))
        assert slide.level_downsamples == (1, 2, 4)
        for number in range(3):
            rgba = np.asarray(slide.read_region((16, 8), number, (150, 100)))
            expected = np.where(rgba[..., 3:] == 0, np.uint8(255), rgba[..., :3])
            np.testing.assert_array_equal(reader.read_region(16, 8, number, 150, 100), expected)


@pytest.mark.parametrize("spacings", [[0.0002], [0.0002, -1.0], [0.0004, 0.0002]])
def test_philips_levels_that_do_not_fit_their_spacings_are_left(
    tmp_path: Path, spacings: list[float]
) -> None:
    path = philips(tmp_path / "some.tiff", [picture(128, 192), picture(64, 128)], spacings)
    with pytest.raises(LeftToOpenSlide, match="spacing"):
        layout_of(path)


def test_believable_sizes_are_every_readers_rule(tmp_path: Path) -> None:
    path = write_tiff(
        tmp_path / "long.tif",
        [np.zeros((64, 2**20 + 1, 3), np.uint8)],
        Kind(compression="zlib", tile=(64, 4096)),
    )
    with pytest.raises(SlideImplausible, match="1048577"):
        opened(path, assume_mpp=0.5)


@settings(max_examples=60)
@given(st.integers(1, 10**7), st.integers(1, 10**7), st.sampled_from(["INCH", "CENTIMETER"]))
def test_any_resolution_is_read_as_openslide_reads_it(
    tmp_path_factory: pytest.TempPathFactory, per_unit: int, units: int, unit: str
) -> None:
    header = {"resolution": ((per_unit, units),) * 2, "resolutionunit": unit}
    path = tmp_path_factory.getbasetemp() / "resolution.tif"
    write_tiff(path, [PIXELS[:16, :16]], Kind(tile=(16, 16), header=header))
    ours = layout_of(path).properties
    with OpenSlide(path) as slide:
        expected = float(slide.properties["openslide.mpp-x"])
    assert float(ours["openslide.mpp-x"]) == pytest.approx(expected, rel=1e-6)


def _plain(text: str | None) -> str | float | None:
    """A number as such; none where it can't be a size, which OpenSlide passes on."""
    try:
        return max(float(text), 0) or None if text is not None else None
    except ValueError:
        return text
