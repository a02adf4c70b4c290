"""DICOM: which files of a folder are one slide.

A DICOM slide is a series: one file or more for each level, in one folder, with one
SeriesInstanceUID (DICOM PS3.3, C.7.3.1). Nothing but that identifier is read here.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from microtome.slides.storage import filesystem_of

SERIES_INSTANCE_UID = 0x0020000E
HEADER_BYTES = 1 << 16
LOOK_UPS = 16
"""Headers read at a time: in a store each costs a round trip."""


def series_uid(uri: str) -> str | None:
    """SeriesInstanceUID of a file, from its first bytes; None where it isn't readable DICOM."""
    from pydicom.errors import InvalidDicomError
    from pydicom.filereader import read_partial

    filesystem, path = filesystem_of(uri)
    try:
        with filesystem.open(path, "rb", block_size=HEADER_BYTES) as file:
            header = read_partial(file, stop_when=_past_series, specific_tags=[SERIES_INSTANCE_UID])
        return str(header[SERIES_INSTANCE_UID].value)
    except (InvalidDicomError, OSError, EOFError, ValueError, KeyError, struct.error):
        return None  # a slide by itself: opening it will say what is wrong


def by_series(uris: Iterable[str]) -> dict[str, list[str]]:
    """Group DICOM files of one folder by series, in name order.

    A file whose series can't be read is a group by itself, under its own URI.
    """
    uris = sorted(uris)
    with ThreadPoolExecutor(LOOK_UPS) as pool:
        uids = list(pool.map(series_uid, uris))
    groups: dict[str, list[str]] = defaultdict(list)
    for uri, uid in zip(uris, uids, strict=True):
        groups[uid or uri].append(uri)
    return dict(groups)


def _past_series(tag: Any, _vr: str | None, _length: int) -> bool:
    return bool(tag > SERIES_INSTANCE_UID)
