"""What a refused file is told to be, and how far a truncated one should have gone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from microtome.errors import NotBrightfield, SlideImplausible, SlideTruncated, SlideUnsupported
from microtome.slides.diagnosis import check_complete, refusal
from support.made_tiffs import overwrite_tag

GREY = np.zeros((64, 64), np.uint8)
RGB = np.zeros((64, 64, 3), np.uint8)


def write_qptiff(path: Path, *pages: np.ndarray) -> Path:
    with tifffile.TiffWriter(path) as tiff:
        for page in pages:
            tiff.write(page, software="PerkinElmer-QPI", metadata=None)
    return path


def test_ome_tiff_is_named(tmp_path):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, RGB, photometric="rgb", tile=(64, 64), ome=True)
    error = refusal(str(path), "a.ome.tif", "no")
    assert type(error) is SlideUnsupported
    assert "OME-TIFF" in error.message


@pytest.mark.parametrize("width_px", [0, 1 << 21, 1 << 31])
def test_dimensions_that_no_scanner_makes_are_told_as_such(tmp_path, width_px):
    path = tmp_path / "a.svs"
    tifffile.imwrite(path, RGB, photometric="rgb", tile=(64, 64), compression="jpeg")
    overwrite_tag(path, 256, lambda _: width_px)
    error = refusal(str(path), "a.svs", "no")
    assert type(error) is SlideImplausible
    assert f"a.svs is {width_px} × 64 px" in error.message


def test_channels_of_a_qptiff_are_counted_at_full_size(tmp_path):
    path = write_qptiff(tmp_path / "a.qptiff", GREY, GREY, GREY, GREY[:16, :16], RGB[:8, :8])
    error = refusal(str(path), "a.qptiff", "no")
    assert type(error) is NotBrightfield
    assert "3 fluorescence channels" in error.message


def test_a_brightfield_qptiff_is_not_called_fluorescence(tmp_path):
    path = write_qptiff(tmp_path / "a.qptiff", RGB)
    assert type(refusal(str(path), "a.qptiff", "no")) is SlideUnsupported


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_a_tiff_that_lacks_one_byte_is_incomplete(tmp_path, big, byteorder):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path, bigtiff=big, byteorder=byteorder) as tiff:
        for _ in range(3):
            tiff.write(np.ones((256, 256), np.uint8), tile=(64, 64), metadata=None)
    check_complete(str(path), "a.tif")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SlideTruncated, match=r"a\.tif ends after"):
        check_complete(str(path), "a.tif")


def test_tiles_that_were_left_out_are_not_missed(tmp_path):
    path = tmp_path / "sparse.tif"
    tiles = [np.ones((64, 64), np.uint8).tobytes(), b"", b"", b""]
    tifffile.imwrite(path, iter(tiles), shape=(128, 128), dtype=np.uint8, tile=(64, 64))
    check_complete(str(path), "sparse.tif")
