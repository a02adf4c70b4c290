"""What a slide is: where it lies, what its header says, and the one way its pixels are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""RGB, shape (height, width, 3), dtype uint8."""

Scalar = str | int | float | bool | None
"""A manifest value; dates are kept as ISO 8601 text."""

MppSource = Literal["slide", "manifest", "objective", "assumed"]


@dataclass(frozen=True, slots=True)
class SlideRef:
    """A slide that is wanted: named and located, not yet opened.

    Attributes:
        slide_id: from the manifest, else the path relative to SOURCE, `/` between folders.
        uri: local path or fsspec URI; for a DICOM series, any one file of it.
        case_id: the patient or case, where the manifest names one.
        mpp: µm per level-0 pixel as the manifest says, for slides that don't.
        columns: every further manifest column, by name.
        stamp: a cheap hint that the file may have changed (size and mtime or etag), no identity.
        carried: case and columns are those that the atlas holds under this name; no manifest says
            them of the bytes that lie there now.
    """

    slide_id: str
    uri: str
    case_id: str | None = None
    mpp: float | None = None
    columns: Mapping[str, Scalar] = field(default_factory=dict)
    stamp: str = ""
    carried: bool = False

    @property
    def is_described(self) -> bool:
        """Whether a manifest says the case, or anything further."""
        said = (self.case_id, *self.columns.values())
        return not self.carried and any(value is not None for value in said)


@dataclass(frozen=True, slots=True)
class Level:
    """One resolution of the pyramid; level 0 is the finest.

    Attributes:
        width_px: width in this level's pixels.
        height_px: height in this level's pixels.
        downsample: level-0 pixels per pixel of this level.
        reductions: by how much the file's decoder itself can shrink this level, 1 first; more than
            (1,) only where the reader is a `ReducingReader`.
    """

    width_px: int
    height_px: int
    downsample: float
    reductions: tuple[int, ...] = (1,)


@dataclass(frozen=True, slots=True)
class Slide:
    """What a slide's header says, and nothing that could name the patient.

    Attributes:
        slide_id: as in its `SlideRef`.
        uri: as in its `SlideRef`.
        content_id: hash of size, header and sampled byte ranges: the same wherever the file lies.
        size_bytes: of all files that make up the slide.
        format: file format in lower case, e.g. `svs`, `ndpi`, `dicom`, `tiff`.
        vendor: scanner vendor as the reader names it, e.g. `aperio`.
        reader: the reader that opened it, e.g. `openslide`.
        levels: finest first.
        mpp: µm per level-0 pixel.
        mpp_source: who said so.
        objective: magnification of the objective, where known.
        properties: vendor properties from an allow-list; never free text, dates or names.
    """

    slide_id: str
    uri: str
    content_id: str
    size_bytes: int
    format: str
    vendor: str
    reader: str
    levels: tuple[Level, ...]
    mpp: float
    mpp_source: MppSource
    objective: float | None = None
    properties: Mapping[str, str] = field(default_factory=dict)

    @property
    def width_px(self) -> int:
        """Width at level 0."""
        return self.levels[0].width_px

    @property
    def height_px(self) -> int:
        """Height at level 0."""
        return self.levels[0].height_px


class SlideReader(Protocol):
    """An open slide. Safe to call from several threads; label and macro images are never read."""

    @property
    def slide(self) -> Slide:
        """The header's facts."""
        ...

    @property
    def bytes_read(self) -> int:
        """Bytes taken from the file or store so far."""
        ...

    def read_region(self, x: int, y: int, level: int, width_px: int, height_px: int) -> Pixels:
        """Read a rectangle of one level, decoded and not resampled.

        Args:
            x: left edge in level-0 pixels.
            y: top edge in level-0 pixels.
            level: index into `slide.levels`.
            width_px: width in that level's pixels.
            height_px: height in that level's pixels.

        Returns:
            (height_px, width_px, 3) uint8; white where the rectangle leaves the slide or where
            the slide holds no pixels.

        Raises:
            TileReadFailed: the pixels there can't be decoded.
        """
        ...

    def close(self) -> None:
        """Release the file; reading afterwards is an error."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class ReducingReader(SlideReader, Protocol):
    """A reader whose decoder can shrink a level for a fraction of the work."""

    def read_reduced(
        self, x: int, y: int, level: int, width_px: int, height_px: int, *, reduction: int
    ) -> Pixels:
        """Read a rectangle of one level at 1 / `reduction` of its resolution.

        Args:
            x: left edge in level-0 pixels.
            y: top edge in level-0 pixels.
            level: index into `slide.levels`.
            width_px: width in reduced pixels, each `reduction` pixels of that level wide.
            height_px: height in reduced pixels.
            reduction: one of the level's `reductions`; 1 is `read_region`.

        Returns:
            (height_px, width_px, 3) uint8, as `read_region`, within a grey level or so of the
            area's mean.

        Raises:
            TileReadFailed: the pixels there can't be decoded.
        """
        ...


class Region(NamedTuple):
    """A rectangle that will be read: the arguments of `ReducingReader.read_reduced`."""

    x: int
    y: int
    level: int
    width_px: int
    height_px: int
    reduction: int = 1


@runtime_checkable
class FetchingReader(SlideReader, Protocol):
    """A reader that wants to know early what it will be asked for: its slide may lie far away."""

    def fetch_ahead(self, regions: Iterable[Region]) -> None:
        """Begin to bring what `regions` need, and go on as they are read, in bounded memory.

        Args:
            regions: what will be read next, in about that order, each once; it is iterated over
                while they are, from any thread. A further call replaces what is left of them.
        """
        ...
