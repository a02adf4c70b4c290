"""Open a slide, or say precisely why not.

find its files → hash them → choose a reader → read the header

Tiled TIFF is read directly, where it lies, in S3 as on a disk. Whatever the direct reader isn't
sure of goes to OpenSlide, after it was brought to this machine and checked to be whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from openslide import OpenSlideError

from microtome.config import MppSettings, ReaderChoice
from microtome.errors import SlideEmpty, SlideUnreadable, SlideUnsupported
from microtome.slides.content import SlideFiles, content_id
from microtome.slides.diagnosis import check_complete, refusal
from microtome.slides.openslide_reader import OpenSlideReader, said
from microtome.slides.parts import parts_of
from microtome.slides.slide import SlideReader, SlideRef
from microtome.slides.staging import localised
from microtome.slides.storage import explained, filesystem_of, is_remote, local_path
from microtome.slides.tiff_layout import LeftToOpenSlide
from microtome.slides.tiff_opening import open_tiff
from microtome.slides.tiff_reader import TiffReader
from microtome.slides.tiff_remote import RemoteObject
from microtome.slides.tiff_source import ByteSource, LocalFile


def open_slide(ref: SlideRef, mpp: MppSettings, reader: ReaderChoice = "auto") -> SlideReader:
    """Open a slide for reading.

    Args:
        ref: which one.
        mpp: who may say how large a pixel is where the slide doesn't.
        reader: `auto` chooses, `tiff` and `openslide` insist.

    Raises:
        SlideEmpty, SlideTruncated, SlideUnreadable: the file is damaged, gone, or no slide.
        SlideChanged: another version of it was written meanwhile.
        SlideUnsupported, NotBrightfield: an image, but none that can be indexed.
        SlideImplausible, SlideWithoutMpp: the header can't be worked with.
    """
    files = slide_files_of(ref)
    if reader == "openslide":
        return _through_openslide(files, mpp)
    try:
        return _directly(files, mpp)
    except LeftToOpenSlide as reason:
        if reader == "tiff":
            raise SlideUnsupported(
                f"{ref.slide_id} isn't read directly: {reason}",
                remedy="Let the reader be chosen, or choose openslide.",
            ) from None
    except SlideUnreadable:
        if reader == "tiff":
            raise
    return _through_openslide(files, mpp)


def slide_files_of(ref: SlideRef) -> SlideFiles:
    """Find and hash the files that make up a slide.

    Raises:
        SlideEmpty: its main file holds no bytes.
        SlideUnreadable: they can't be read.
    """
    with _explained(ref):
        filesystem, path = filesystem_of(ref.uri)
        info = filesystem.info(path)
        if not info["size"]:
            raise SlideEmpty(
                f"{ref.slide_id} holds no bytes", remedy="Copy it again from where it was scanned."
            )
        parts = parts_of(ref.uri)
        return SlideFiles(ref, parts, *content_id(parts), etag=info.get("ETag", ""))


def _directly(files: SlideFiles, mpp: MppSettings) -> TiffReader:
    with _explained(files.ref):
        source = _source(files)
    return open_tiff(files, source, mpp)


def _source(files: SlideFiles) -> ByteSource:
    ref = files.ref
    if not is_remote(ref.uri):
        return LocalFile(local_path(ref.uri), ref.slide_id)
    if not ref.uri.startswith(("s3://", "s3a://")) or not files.etag or len(files.parts) > 1:
        raise LeftToOpenSlide("only single objects in S3 are read where they lie")
    from microtome.slides.s3_object import S3Object  # takes half a second

    ranges = S3Object(ref.uri, ref.slide_id, files.etag)
    return RemoteObject(ref.slide_id, files.size_bytes, ranges)


def _through_openslide(files: SlideFiles, mpp: MppSettings) -> OpenSlideReader:
    ref = files.ref
    with _explained(ref):
        local = localised(files)
    try:
        check_complete(local.path, ref.slide_id)
        return OpenSlideReader(files, local, mpp)
    except OpenSlideError as error:
        cause = refusal(local.path, ref.slide_id, said(error, local.path))
        local.discard()
        raise cause from None
    except BaseException:
        local.discard()
        raise


@contextmanager
def _explained(ref: SlideRef) -> Iterator[None]:
    """What a disk or a store refuses is this slide's failure, under the name its user knows."""
    shown = ref.uri if is_remote(ref.uri) else ref.slide_id
    with explained(shown, missing=SlideUnreadable, refused=SlideUnreadable):
        yield
