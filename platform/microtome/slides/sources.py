"""From SOURCEs and a manifest to the slides that are wanted.

list each SOURCE → one entry a slide (a DICOM series is one) → what the manifest adds → unique ids
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import pyarrow as pa

from microtome.errors import DuplicateSlideId
from microtome.slides.dicom import by_series
from microtome.slides.listing import FoundFile, slide_files
from microtome.slides.manifest import FoundSlide, Manifest, read_manifest
from microtome.slides.parts import parts_of
from microtome.slides.slide import SlideRef
from microtome.slides.storage import explained


@dataclass(frozen=True, slots=True)
class Selection:
    """The slides that are wanted.

    Attributes:
        refs: by slide id, each id once.
        columns: types of the manifest's further columns; string, int64, float64 or bool.
    """

    refs: tuple[SlideRef, ...]
    columns: pa.Schema


def find_slides(sources: Sequence[str], manifest: str | None = None) -> Selection:
    """List slides and name them; opens none (of DICOM files one identifier is read).

    Args:
        sources: files, folders (recursive), globs or fsspec URIs; a slide found by several counts
            once, named by the first.
        manifest: CSV or Parquet with `uri` or `slide_id`, see `manifest`. Slides that it doesn't
            list are taken too, with nulls in its columns.

    Raises:
        SettingError: a URI holds a secret, or no reader for its protocol is installed.
        SourceNotFound: a SOURCE or the manifest doesn't exist, or holds no slide.
        SourceUnreadable: a listing was refused.
        ManifestError: the manifest is wrong in itself, or names slides that aren't there.
        DuplicateSlideId: two slides claim one id.
    """
    found: dict[str, FoundSlide] = {}
    for source in sources:
        for slide in _slides_at(source):
            found.setdefault(slide.uri, slide)
    table = read_manifest(manifest) if manifest else Manifest.empty()
    pairs = sorted(
        table.applied(list(found.values())), key=lambda pair: (pair[0].slide_id, pair[1])
    )
    _refuse_duplicates(pairs)
    return Selection(tuple(ref for ref, _ in pairs), table.columns)


def _slides_at(source: str) -> Iterator[FoundSlide]:
    files = slide_files(source)
    for file in files:
        if not file.is_dicom:
            yield FoundSlide(file.name, file.uri, file.shown, file.stamp)
        elif file.outright:
            yield _series_of(file)
    dicom = [file for file in files if file.is_dicom and not file.outright]
    dicom.sort(key=lambda file: (file.folder, file.uri))
    for _, folder in groupby(dicom, lambda file: file.folder):
        yield from _series_in(list(folder))


def _series_of(file: FoundFile) -> FoundSlide:
    """The series that a file named outright belongs to, under that file's name."""
    with explained(file.shown):
        parts = parts_of(file.uri)
    return FoundSlide(file.name, parts[0], file.shown, file.stamp, parts)


def _series_in(files: Sequence[FoundFile]) -> Iterator[FoundSlide]:
    """The slides among the DICOM files of one folder, named for the folder."""
    by_uri = {file.uri: file for file in files}
    folder = posixpath.dirname(files[0].name) or posixpath.basename(files[0].folder)
    groups = by_series(by_uri)
    several = sum(uid not in by_uri for uid in groups) > 1
    for uid, uris in groups.items():
        first = by_uri[uris[0]]
        if uid in by_uri:  # no readable DICOM, so no series: named for itself
            yield FoundSlide(first.name, first.uri, first.shown, first.stamp)
            continue
        stamps = "|".join(by_uri[uri].stamp for uri in uris)
        yield FoundSlide(
            f"{folder}#{uid.rpartition('.')[2]}" if several else folder,
            first.uri,
            first.shown if several else posixpath.dirname(first.shown),
            hashlib.blake2b(stamps.encode(), digest_size=16).hexdigest(),
            (*uris, *(() if several else (first.folder,))),
        )


def _refuse_duplicates(refs: Sequence[tuple[SlideRef, str]]) -> None:
    for (one, shown), (other, other_shown) in pairwise(refs):
        if one.slide_id == other.slide_id:
            raise DuplicateSlideId(
                f"two slides are called {one.slide_id}: {shown} and {other_shown}",
                remedy="Index the folder above both, or give each its own slide_id in a manifest "
                "with the columns uri and slide_id.",
            )
