"""The ledger: what became of every slide that was ever wanted.

One row per slide, content and model. Rows that a newer one settles are dropped in the same
commit, so a slide has at most one row per model that says `done` or `empty`, and that row names
the bytes whose tiles are in the atlas. A failed look at a slide leaves that row alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Literal

import pyarrow as pa

from microtome.atlas.atlas import Atlas
from microtome.atlas.schema import WORK, work_id
from microtome.atlas.sql import one_of, quoted
from microtome.atlas.writer import Writer
from microtome.errors import (
    NotBrightfield,
    SlideEmpty,
    SlideImplausible,
    SlideTooCoarse,
    SlideTruncated,
    SlideUnsupported,
    TileReadFailed,
)
from microtome.slides.slide import SlideRef

WorkStatus = Literal["done", "empty", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One row of the ledger; `schema.WORK` says what each column means."""

    slide_id: str
    content_id: str
    model_id: str
    uri: str
    stamp: str
    status: WorkStatus
    cause: str = ""
    message: str = ""
    attempts: int
    planned_tiles: int
    stored_tiles: int
    reader: str = ""
    bytes_read: int | None = None
    seconds: float | None = None
    finished_at: datetime
    run_id: str

    @property
    def settled(self) -> bool:
        """Whether nothing is left to do while the slide's bytes stay the same."""
        return self.status != "failed"

    def row(self) -> dict[str, object]:
        """The row as the table holds it."""
        return {"work_id": work_id(self.slide_id, self.content_id, self.model_id), **asdict(self)}


_COLUMNS = [field.name for field in fields(Work)]


LASTING = frozenset(
    error.cause
    for error in (
        SlideEmpty,
        SlideTruncated,
        SlideUnsupported,
        SlideImplausible,
        SlideTooCoarse,
        NotBrightfield,
        TileReadFailed,
    )
)
"""Causes that lie in the bytes: the same file fails again, so it isn't tried again unasked."""
ALL_CAUSES = "all"


class Ledger:
    """What is known of the slides' work when it is made; later commits aren't seen.

    A slide that any model is done with is settled: another model's vectors for it are the business
    of `embed`. Failures count for the model that asks.
    """

    def __init__(self, atlas: Atlas, model_id: str) -> None:
        works = read_work(atlas)
        self._settled = {work.slide_id: work for work in works if work.settled}
        mine = (work for work in works if work.model_id == model_id)
        self._failed = {work.slide_id: work for work in mine if not work.settled}

    def pending(self, refs: Sequence[SlideRef], retry: Collection[str] = ()) -> list[SlideRef]:
        """The slides to look at, in order.

        New ones, those with another stamp or place, and failed ones that may fare better now.

        Args:
            refs: the slides that are wanted.
            retry: causes of failures to try again although they lie in the file; `all` is each.
        """
        alone = self.left_alone(refs, retry)
        return [ref for ref in refs if not self._is_current(ref) and ref.slide_id not in alone]

    def left_alone(self, refs: Sequence[SlideRef], retry: Collection[str] = ()) -> dict[str, str]:
        """Cause by slide id of the failed slides that aren't to be tried again."""
        causes = LASTING - set(retry) if ALL_CAUSES not in retry else frozenset()
        failed = ((ref, self._failed.get(ref.slide_id)) for ref in refs)
        return {
            ref.slide_id: work.cause
            for ref, work in failed
            if work and work.stamp == ref.stamp and work.cause in causes
        }

    def owners(self) -> dict[str, str]:
        """Slide id by content id of all that is done or empty: nothing of it need be embedded."""
        return {work.content_id: slide_id for slide_id, work in self._settled.items()}

    def finished_content(self, slide_id: str) -> str:
        """Content id that is done or empty under this slide id; empty where there is none."""
        work = self._settled.get(slide_id)
        return work.content_id if work else ""

    def _is_current(self, ref: SlideRef) -> bool:
        work = self._settled.get(ref.slide_id)
        return work is not None and (work.stamp, work.uri) == (ref.stamp, ref.uri)


def read_work(atlas: Atlas, where: str | None = None) -> list[Work]:
    """Rows of the ledger that match an SQL filter."""
    table = atlas.rows("work", columns=_COLUMNS, filter=where)
    return [Work(**row) for row in table.to_pylist()]


def read_work_of(atlas: Atlas, slide_ids: Iterable[str]) -> Mapping[str, list[Work]]:
    """Rows of the ledger by slide id, of all models."""
    by_slide: dict[str, list[Work]] = {slide_id: [] for slide_id in slide_ids}
    if not by_slide:
        return by_slide
    for work in read_work(atlas, one_of("slide_id", by_slide)):
        by_slide[work.slide_id].append(work)
    return by_slide


def record(writer: Writer, works: Sequence[Work], *, superseding: bool = True) -> None:
    """Write rows and drop those they supersede, in one commit.

    Args:
        writer: of the atlas whose ledger it is.
        works: the rows, one per slide and model.
        superseding: False where the ledger is known to hold no row of these slides.

    Raises:
        AtlasWriteFailed: the store refuses the write.
    """
    if not works:
        return
    rows = pa.Table.from_pylist([work.row() for work in works], schema=WORK)
    if superseding:
        writer.upsert("work", rows, delete_where=" OR ".join(map(_superseded_by, works)))
    else:
        writer.append("work", rows)


def _superseded_by(work: Work) -> str:
    """Filter for the rows that `work` makes untrue."""
    slide, model = quoted(work.slide_id), quoted(work.model_id)
    if not work.settled:
        return f"(slide_id = {slide} AND model_id = {model} AND status = 'failed')"
    # Replaced tiles take the vectors of every model with them, so other contents go for all.
    content = quoted(work.content_id)
    return f"(slide_id = {slide} AND (model_id = {model} OR content_id <> {content}))"
