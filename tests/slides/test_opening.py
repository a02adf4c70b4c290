"""Each thing that is no good slide fails with its own cause, and names itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from microtome.config import MppSettings
from microtome.errors import (
    NotBrightfield,
    SlideEmpty,
    SlideError,
    SlideTruncated,
    SlideUnreadable,
    SlideUnsupported,
)
from microtome.slides.opening import open_slide
from microtome.slides.slide import SlideReader, SlideRef
from microtome.slides.sources import find_slides
from microtome_jobs.made.pyramid import write_pyramid
from support.dicom_files import write_dicom
from support.object_store import ObjectStore


def opened(path: Path | str) -> SlideReader:
    return open_slide(SlideRef("the-slide", str(path)), MppSettings())


def failure(path: Path | str) -> SlideError:
    with pytest.raises(SlideError) as raised:
        opened(path)
    assert str(raised.value).startswith(("the-slide ", "nothing lies at the-slide"))
    assert str(Path(path).parent) not in str(raised.value)
    return raised.value


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        (b"", SlideEmpty, "holds no bytes"),
        (b"slide,site\na,b\n", SlideUnreadable, "is text"),
        ("Färbung: HE\n".encode() * 900, SlideUnreadable, "is text"),
        (bytes(range(256)) * 64, SlideUnreadable, "can't be read as a slide"),
        (b"II*\0", SlideUnreadable, "structure is broken"),
        (b"II*\0\xff\xff\xff\x7f" + bytes(100), SlideTruncated, "108"),
        (b"II*\0\x08\0\0\0" + b"\xee" * 500, SlideUnreadable, "TIFF"),
    ],
    ids=["empty", "text", "utf-8", "bytes", "4 bytes", "directory beyond end", "garbage in TIFF"],
)
def test_no_slide_at_all(tmp_path, content, kind, words):
    (tmp_path / "a.svs").write_bytes(content)
    error = failure(tmp_path / "a.svs")
    assert type(error) is kind
    assert words in error.message


@pytest.mark.parametrize("kept", [0.01, 0.05, 0.3, 0.6, 0.9, 0.99, 0.9999])
def test_a_truncated_slide_is_found_wherever_it_ends(tmp_path, svs, kept):
    content = svs.read_bytes()
    (tmp_path / "a.svs").write_bytes(content[: int(len(content) * kept)])
    assert type(failure(tmp_path / "a.svs")) is SlideTruncated


def test_a_plain_picture_is_no_slide(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.jpg")
    error = failure((tmp_path / "a.jpg").rename(tmp_path / "a.svs"))
    assert type(error) is SlideUnsupported
    assert "a JPEG picture" in error.message


def test_a_tiff_without_tiles_says_how_to_convert_it(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((64, 64, 3), np.uint8), photometric="rgb")
    error = failure(tmp_path / "a.tif")
    assert type(error) is SlideUnsupported
    assert "without tiles" in error.message
    assert "vips tiffsave" in error.remedy


def test_a_slide_that_is_gone_is_unreadable(tmp_path):
    assert type(failure(tmp_path / "gone.svs")) is SlideUnreadable


def test_dicom_without_a_picture_is_unreadable(tmp_path):
    assert type(failure(write_dicom(tmp_path / "a.dcm", "1.2.3"))) is SlideUnreadable


def test_a_slide_that_is_staged_reads_the_same_and_is_moved_once(s3: ObjectStore, svs):
    ref = SlideRef("the-slide", f"{s3.bucket({'in/made.svs': svs})}/in/made.svs")
    with open_slide(ref, MppSettings(), "openslide") as far, opened(svs) as near:
        assert far.slide.content_id == near.slide.content_id
        assert far.bytes_read == svs.stat().st_size
        region = (10, 20, 0, 200, 100)
        assert np.array_equal(far.read_region(*region), near.read_region(*region))
    with open_slide(ref, MppSettings(), "openslide") as again:
        assert again.bytes_read == 0


def test_a_refused_slide_in_a_bucket_is_let_go(s3: ObjectStore, monkeypatch):
    bucket = s3.bucket({"a.svs": b"text a", "b.svs": b"text b"})
    monkeypatch.setenv("MICROTOME_STAGING_BYTES", "6")  # room for one
    for name in ("a", "b"):
        with pytest.raises(SlideUnreadable, match="is text"):
            opened(f"{bucket}/{name}.svs")


def test_an_object_that_is_gone_is_unreadable(s3: ObjectStore):
    with pytest.raises(SlideUnreadable, match="nothing lies at"):
        opened(f"{s3.bucket()}/gone.svs")


# the real files, each with the end that it must come to
@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("broken.svs", SlideUnreadable, "is text"),
        ("small_vectra.qptiff", NotBrightfield, "3 fluorescence channels"),
    ],
)
def test_real_files_that_are_refused(real_data, name, kind, words):
    error = failure(real_data / "wsi" / name)
    assert type(error) is kind
    assert words in error.message


@pytest.mark.parametrize(
    ("slide_id", "kind", "size", "mpp", "objective"),
    [
        ("CMU-1-Small-Region.svs", "svs", (2220, 2967), 0.499, 20.0),
        ("dicom_cmu1_small_region", "dicom", (2220, 2967), 0.499, None),
        ("test3-DAPI.ndpi", "ndpi", (3968, 4864), 0.2282, 40.0),
    ],
)
def test_real_files_that_open(real_data, slide_id, kind, size, mpp, objective):
    refs = {ref.slide_id: ref for ref in find_slides([str(real_data / "wsi")]).refs}
    with open_slide(refs[slide_id], MppSettings()) as reader:
        slide = reader.slide
    assert (slide.format, slide.width_px, slide.height_px) == (kind, *size)
    assert (slide.mpp, slide.objective) == (pytest.approx(mpp, abs=1e-4), objective)


def test_a_dicom_series_in_a_bucket_opens_whole(s3: ObjectStore, real_data):
    folder = real_data / "wsi/dicom_cmu1_small_region"
    bucket = s3.bucket({f"scan/{file.name}": file for file in folder.iterdir()})
    (ref,) = find_slides([bucket]).refs
    with open_slide(ref, MppSettings()) as reader:
        assert len(reader.slide.levels) == 12
        assert reader.slide.size_bytes == sum(file.stat().st_size for file in folder.iterdir())


@pytest.mark.parametrize("name", ["OS-1-detail.ome.tif", "OS-2-vsi.ome.tif"])
def test_an_ome_tiff_is_read_directly_and_refused_by_openslide(real_data, name):
    ref = SlideRef(name, str(real_data / "wsi" / name))
    with open_slide(ref, MppSettings()) as reader:
        assert (reader.slide.format, reader.slide.reader) == ("ome-tiff", "tiff")
        assert reader.read_region(0, 0, 0, 64, 64).std() > 0
    with pytest.raises(SlideUnsupported, match="OME-TIFF"):
        open_slide(ref, MppSettings(), "openslide")


@pytest.mark.parametrize(
    ("choice", "reader"), [("auto", "tiff"), ("tiff", "tiff"), ("openslide", "openslide")]
)
def test_the_reader_is_chosen_or_forced(tmp_path, choice, reader):
    write_pyramid(tmp_path / "a.svs", np.full((600, 600, 3), 200, np.uint8))
    with open_slide(SlideRef("a", str(tmp_path / "a.svs")), MppSettings(), choice) as opened:
        assert opened.slide.reader == reader


def test_the_direct_reader_says_why_it_does_not_take_a_slide(real_data):
    ref = SlideRef("dapi", str(real_data / "wsi" / "test3-DAPI.ndpi"))
    with pytest.raises(SlideUnsupported, match="dapi isn't read directly"):
        open_slide(ref, MppSettings(), "tiff")
