"""Fill the vector column of one more model, for tiles that are in the atlas already.

1. `plan_backfill` finds the slides that the ledger doesn't settle for the model, and of them the
   tiles whose vector is null;
2. workers embed those slides; their vectors wait in a table of their own, see `staged`;
3. once all vectors of a fragment are there, they become its column in one commit, see `columns`;
4. once all fragments of a slide have theirs, the ledger says so.

The column itself is the truth: a null is work to do. So a job that is killed goes on from what it
finds, wherever it was: slides whose vectors wait aren't embedded again, nor those whose column is
filled; they only get their row in the ledger. A slide that can't be read leaves its nulls and a row
with the cause. Other models' vectors and indices aren't touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from microtome.atlas.atlas import Atlas
from microtome.atlas.backfill_plan import BackfillPlan, HeldSlide
from microtome.atlas.columns import ColumnFile, TableVersion, replace_columns
from microtome.atlas.judgement import checked
from microtome.atlas.ledger import Work, WorkStatus, read_work, record
from microtome.atlas.outcome import SlideOutcome
from microtome.atlas.schema import vector_column
from microtome.atlas.sql import quoted
from microtome.atlas.staged import Staged
from microtome.atlas.tables import open_table
from microtome.atlas.writer import Writer
from microtome.models.card import ModelCard

RECORDED_ROWS = 64  # each is a term of one SQL filter


class Backfill:
    """Commits the outcomes of one plan.

    Args:
        writer: of the atlas.
        atlas: with the model's column.
        plan: what there is to do.
        card: of the model.
        run_id: the run that does it.

    Attributes:
        missed: whether fragments were compacted away meanwhile, so that a new plan is due.
    """

    def __init__(
        self, writer: Writer, atlas: Atlas, plan: BackfillPlan, card: ModelCard, run_id: str
    ) -> None:
        self.missed = False
        self._writer = writer
        self._tiles = TableVersion(atlas.uri, "tiles", open_table(atlas.uri, "tiles", plan.version))
        self._plan = plan
        self._card = card
        self._run_id = run_id
        self._staged = Staged(writer, card)
        failed = read_work(atlas, f"model_id = {quoted(card.model_id)} AND status = 'failed'")
        self._failures = {work.slide_id: work.attempts for work in failed}
        self._outcomes: dict[str, SlideOutcome] = {}
        self._open = {number: set(slide_ids) for number, slide_ids in plan.lacking.items()}
        """Fragments that are to be filled, and the slides that are waited for."""
        self._unfilled = {
            slide_id: {number for number in places if slide_id in plan.lacking.get(number, ())}
            for slide_id, places in plan.fragments.items()
        }
        self._ready = {one.slide_id for one in plan.wanted.values() if self._is_staged(one)}

    @property
    def todo(self) -> list[HeldSlide]:
        """The slides that are to be embedded, in the order in which fragments become complete."""
        return [one for one in self._plan.wanted.values() if one.slide_id not in self._ready]

    def resume(self) -> list[Work]:
        """Finish what an earlier job left: fill what can be, and write down what is there.

        Returns:
            The ledger's new rows.

        Raises:
            AtlasWriteFailed: the store refuses a write; running again goes on from there.
        """
        works = [self._settled(one) for one in self._plan.settled]
        self._record(works)
        return works + self._fill(self._ready)

    def commit(self, outcomes: Sequence[SlideOutcome]) -> list[Work]:
        """Keep a wave of outcomes, and fill the fragments that are complete with it.

        Returns:
            The ledger's new rows: of slides that failed, and of those whose vectors are all in
            place; those of a fragment that other slides keep open come with a later wave.

        Raises:
            AtlasWriteFailed: the store refuses a write; running again goes on from there.
        """
        judged = [checked(outcome) for outcome in outcomes]
        done = [outcome for outcome in judged if outcome.status == "done"]
        self._staged.add(text for outcome in done for text in outcome.fragments)
        self._outcomes |= {outcome.ref.slide_id: outcome for outcome in judged}
        self._ready |= {outcome.ref.slide_id for outcome in done}
        failed = [self._failed(outcome) for outcome in judged if outcome.status == "failed"]
        self._record(failed)
        return failed + self._fill({outcome.ref.slide_id for outcome in judged})

    def _is_staged(self, slide: HeldSlide) -> bool:
        return self._staged.holds(slide.slide_id, slide.content_id, slide.tiles)

    def _fill(self, arrived: Iterable[str]) -> list[Work]:
        """Fill the fragments that wait for no other slide, and settle the slides complete by it."""
        arrived = set(arrived)
        for waiting in self._open.values():
            waiting.difference_update(arrived)
        complete = [number for number, waiting in self._open.items() if not waiting]
        files = [self._write(number) for number in complete if self._comes_to(number)]
        landed = replace_columns(self._writer, "tiles", files, f"run {self._run_id}")
        self.missed |= len(landed) < len(files)
        settled = []
        for number in complete:
            del self._open[number]
            for slide_id in self._comes_to(number) if number in landed else ():
                self._unfilled[slide_id].discard(number)
                if not self._unfilled[slide_id]:
                    settled.append(self._settled(self._plan.wanted[slide_id]))
        self._record(settled)
        return settled

    def _comes_to(self, number: int) -> frozenset[str]:
        """The slides whose vectors go to a fragment."""
        return self._plan.lacking[number] & self._ready

    def _write(self, number: int) -> ColumnFile:
        """The column of one fragment: what it held, and what waited for it."""
        column = vector_column(self._card.model_id)

        def filled() -> Iterator[pa.Table]:
            for rows in self._tiles.read(number, ["slide_id", "tile_id", column]):
                coming = self._comes_to(number) & set(pc.unique(rows["slide_id"]).to_pylist())
                yield _filled(rows, column, self._staged.vectors(coming)) if coming else rows

        return self._tiles.write(number, [column], filled())

    def _settled(self, slide: HeldSlide) -> Work:
        """The ledger's row of a slide that has all its vectors."""
        status: WorkStatus = "done" if slide.tiles else "empty"
        return self._work(slide, status, self._outcomes.get(slide.slide_id))

    def _failed(self, outcome: SlideOutcome) -> Work:
        return self._work(self._plan.wanted[outcome.ref.slide_id], "failed", outcome)

    def _work(
        self,
        slide: HeldSlide,
        status: WorkStatus,
        outcome: SlideOutcome | None,
    ) -> Work:
        return Work(
            slide_id=slide.slide_id,
            content_id=slide.content_id,
            model_id=self._card.model_id,
            uri=slide.uri,
            stamp=slide.stamp,
            status=status,
            cause=outcome.cause if outcome else "",
            message=outcome.message if outcome else "",
            attempts=self._failures.get(slide.slide_id, 0) + 1,
            planned_tiles=slide.tiles,
            stored_tiles=0 if status == "failed" else slide.tiles,
            reader=slide.reader,
            bytes_read=outcome.bytes_read if outcome else None,
            seconds=outcome.seconds if outcome else None,
            finished_at=datetime.now(UTC),
            run_id=self._run_id,
        )

    def _record(self, works: Sequence[Work]) -> None:
        record(self._writer, [one for one in works if one.attempts == 1], superseding=False)
        again = [one for one in works if one.attempts > 1]
        for start in range(0, len(again), RECORDED_ROWS):
            record(self._writer, again[start : start + RECORDED_ROWS])


def _filled(rows: pa.Table, column: str, staged: pa.Table) -> pa.Table:
    """The rows with those vectors that wait for their tiles."""
    held, coming = rows[column].combine_chunks(), staged["vector"].combine_chunks()
    at = pc.index_in(rows["tile_id"].combine_chunks(), value_set=staged["tile_id"].combine_chunks())
    own = pa.array(np.arange(len(rows), dtype=np.int32) + np.int32(len(coming)))
    values = pa.concat_arrays([coming, held]).take(pc.coalesce(at, own))
    return rows.set_column(rows.schema.get_field_index(column), column, values)
