"""DICOM files that hold no picture: enough to be told apart by series."""

from __future__ import annotations

from pathlib import Path

from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, VLWholeSlideMicroscopyImageStorage


def write_dicom(path: Path, series_uid: str) -> Path:
    """Write a DICOM file of a series, with a name in it that nothing may show."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = VLWholeSlideMicroscopyImageStorage
    meta.MediaStorageSOPInstanceUID = f"{series_uid}.{len(path.name)}"
    header = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    header.PatientName = "Doe^Jane"
    header.SeriesInstanceUID = series_uid
    header.Rows = header.Columns = 1
    header.PixelData = b"\0\0"
    path.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(path, enforce_file_format=True)
    return path
