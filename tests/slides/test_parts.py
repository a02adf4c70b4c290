"""Which files make up a slide."""

from __future__ import annotations

from pathlib import Path

import pytest

from microtome.slides.parts import parts_of
from support.dicom_files import write_dicom


def made(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


VMS = "[Virtual Microscope Specimen]\nImageFile=a.jpg\nOptimisationFile=a.opt\nPath=../secret\n"


@pytest.mark.parametrize(
    ("slide", "expected"),
    [
        ("a.svs", ["a.svs"]),
        ("a.mrxs", ["a.mrxs", "a/Data0000.dat", "a/Slidedat.ini"]),
        ("a.vms", ["a.jpg", "a.opt", "a.vms"]),
    ],
)
def test_companions_of_a_slide(tmp_path, slide, expected):
    made(tmp_path, dict.fromkeys(("a.svs", "a.mrxs", "a.jpg", "a.opt", "b.jpg", "secret"), ""))
    made(tmp_path, {"a/Slidedat.ini": "", "a/Data0000.dat": "", "a.vms": VMS})
    assert parts_of(str(tmp_path / slide)) == tuple(str(tmp_path / name) for name in expected)


def test_a_series_is_its_files_in_that_folder(tmp_path):
    for name, series in (("a", "1.1"), ("b", "1.2"), ("c", "1.1")):
        write_dicom(tmp_path / f"{name}.dcm", series)
    assert parts_of(str(tmp_path / "c.dcm")) == (str(tmp_path / "a.dcm"), str(tmp_path / "c.dcm"))
