"""What became of one slide: what a worker tells the committer, and the ledger remembers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from microtome.errors import MicrotomeError
from microtome.slides.slide import Slide, SlideRef

Status = Literal["done", "empty", "failed", "unchanged", "known"]


@dataclass(frozen=True, slots=True)
class SlideOutcome:
    """One slide's outcome; its tiles, if any, are durable but not yet visible.

    Attributes:
        ref: the slide as it was wanted.
        status: `done`, `empty` (opened well, no tissue), `failed`, `unchanged` (a new stamp or
            place, yet the bytes that the ledger calls done or empty already) or `known` (bytes
            that the atlas holds under another name): of the last two nothing was embedded.
        content_id: hash of the bytes; empty where the file could not be read at all.
        cause: slug of the error's class (`SlideError.cause`); empty unless failed.
        message: the error's text; empty unless failed.
        slide: the header's facts; None where it could not be opened.
        planned_tiles: how many tiles the grid and the tissue mask asked for.
        stored_tiles: rows in `fragments`.
        fragments: JSON of uncommitted Lance fragments of `tiles`.
        tissue_mm2: area of the tissue mask, mm².
        thumbnail: small JPEG of the tissue, from the pyramid's pixels, never an associated image.
        bytes_read: taken from the file or store.
        seconds: wall time in the worker.
    """

    ref: SlideRef
    status: Status
    content_id: str = ""
    cause: str = ""
    message: str = ""
    slide: Slide | None = None
    planned_tiles: int = 0
    stored_tiles: int = 0
    fragments: tuple[str, ...] = ()
    tissue_mm2: float = 0.0
    thumbnail: bytes = b""
    bytes_read: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if (self.status == "failed") != bool(self.cause):
            raise ValueError(f"a slide has a cause if and only if it failed, not {self!r}")
        if self.status == "done" and not (self.slide and self.stored_tiles and self.fragments):
            raise ValueError(f"a slide that is done has facts and tiles, not {self!r}")
        if self.status == "empty" and self.slide is None:
            raise ValueError(f"a slide that is empty has facts, not {self!r}")
        if self.status != "done" and (self.stored_tiles or self.fragments):
            raise ValueError(f"only a slide that is done has tiles, not {self!r}")
        if self.status != "failed" and not self.content_id:
            raise ValueError(f"a slide that could be read has a content id, not {self!r}")

    def failed(self, error: MicrotomeError) -> SlideOutcome:
        """The same slide, failed for this reason; its fragments are let go."""
        return replace(
            self,
            status="failed",
            cause=error.cause,
            message=str(error),
            stored_tiles=0,
            fragments=(),
        )
