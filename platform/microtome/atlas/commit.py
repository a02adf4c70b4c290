"""The committer: the only writer that makes tiles visible.

A wave of slides goes through three commits, in this order:

1. `slides`  what is known of each slide that is done or empty;
2. `tiles`   all tiles of the wave become visible at once, those of changed slides in exchange for
             their old ones;
3. `work`    the ledger says `done`.

Lance has no transaction across tables, so the order carries the proof. A slide's facts lie in
`slides` before its tiles are visible; hence a slide without a row there has no tiles. A row in
`slides` that no ledger row settles is a wave that was cut short; `recovery.recover` finishes or
withdraws it when the next run starts.

The committer keeps in memory which slides it knows. A wave of new slides is therefore three
appends that search no table, at a cost that hardly grows with the atlas.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import cast

import lance
import pyarrow as pa

from microtome.atlas.atlas import Atlas
from microtome.atlas.forgotten import Forgotten
from microtome.atlas.judgement import SETTLED, Known, judged
from microtome.atlas.ledger import Work, WorkStatus, read_work_of, record
from microtome.atlas.moving import rename
from microtome.atlas.outcome import SlideOutcome
from microtome.atlas.presence import Presence, find_tiles, replacement
from microtome.atlas.schema import SLIDES
from microtome.atlas.writer import Writer
from microtome.errors import SlideForgotten
from microtome.slides.slide import SlideRef


@dataclass(frozen=True, slots=True)
class Wave:
    """Slides that become visible together.

    Attributes:
        outcomes: judged: what is done or empty here will be so in the atlas.
        present: visible tiles of those slides, before the wave.
        moves: slides that go by another name from now on, by their name in the atlas.
    """

    outcomes: tuple[SlideOutcome, ...]
    present: Mapping[str, Presence]
    moves: Mapping[str, SlideRef]


class Committer:
    """Commits the outcomes of one run, after `recover`.

    Raises:
        AtlasError: a table can't be read.
    """

    def __init__(self, writer: Writer, atlas: Atlas, run_id: str, model_id: str) -> None:
        self._writer = writer
        self._atlas = atlas
        self._run_id = run_id
        self._model_id = model_id
        slides = atlas.rows("slides", columns=["slide_id", "content_id", "uri"]).to_pylist()
        self._known = Known()
        for row in slides:
            self._known.learn(**row)
        self._worked = set(atlas.rows("work", columns=["slide_id"])["slide_id"].to_pylist())
        self._forgotten = Forgotten.of(atlas.uri)

    def commit(self, outcomes: Sequence[SlideOutcome]) -> tuple[SlideOutcome, ...]:
        """Make a wave visible and write it down.

        A slide named twice counts once, by its first outcome.

        Returns:
            What became of each, in the order given: an outcome whose tiles aren't all there, or
            whose bytes the atlas holds under the name of a slide that is still there, or whose
            slide id belongs to other bytes from another place, comes back as failed. So does
            what was forgotten, of which nothing is written at all, not even that it failed.

        Raises:
            AtlasWriteFailed: the store refused a write; the next run finishes or undoes the wave.
            LeaseLost: another job took the atlas over; likewise.
        """
        refused = {o.ref.slide_id: _refused(o) for o in outcomes if self._is_forgotten(o)}
        wave = self._judge([o for o in outcomes if o.ref.slide_id not in refused])
        self._write_slides(wave)
        self._write_tiles(wave)
        self._write_ledger(wave)
        self._rename(wave)
        became = refused | {outcome.ref.slide_id: outcome for outcome in wave.outcomes}
        return tuple(became[outcome.ref.slide_id] for outcome in outcomes)

    def _is_forgotten(self, outcome: SlideOutcome) -> bool:
        ref = outcome.ref
        return self._forgotten.names(ref.slide_id, outcome.content_id, ref.case_id)

    def _judge(self, outcomes: Sequence[SlideOutcome]) -> Wave:
        verdicts, renamed = judged(outcomes, self._known)
        settled = {outcome.ref.slide_id for outcome in verdicts if outcome.status in SETTLED}
        present = find_tiles(self._atlas, settled & self._known.contents.keys())
        refs = {outcome.ref.slide_id: outcome.ref for outcome in verdicts}
        return Wave(verdicts, present, {old: refs[new] for new, old in renamed.items()})

    def _rename(self, wave: Wave) -> None:
        for old, ref in wave.moves.items():
            content_id = self._known.contents[old]
            self._known.forget(old)
            self._known.learn(ref.slide_id, content_id, ref.uri)
            self._worked.add(ref.slide_id)
        rename(self._writer, self._atlas, wave.moves, self._run_id)

    def _write_slides(self, wave: Wave) -> None:
        settled = [outcome for outcome in wave.outcomes if outcome.status in SETTLED]
        moved = [outcome.ref for outcome in wave.outcomes if outcome.status == "unchanged"]
        self._known.places |= {ref.slide_id: ref.uri for ref in moved}
        if settled:
            self._write_facts(settled)
        if moved:
            columns = pa.schema([SLIDES.field(name) for name in ("slide_id", "uri", "stamp")])
            rows = [{name: getattr(ref, name) for name in columns.names} for ref in moved]
            table = pa.Table.from_pylist(rows, schema=columns)
            self._writer.upsert("slides", table, insert=False)

    def _write_facts(self, outcomes: Sequence[SlideOutcome]) -> None:
        rows = [slide_row(outcome, self._run_id) for outcome in outcomes]
        table = pa.Table.from_pylist(rows, schema=self._atlas.slides.schema)
        all_new = self._known.contents.keys().isdisjoint(o.ref.slide_id for o in outcomes)
        # Before the write, which may succeed and yet seem to fail.
        for outcome in outcomes:
            self._known.learn(outcome.ref.slide_id, outcome.content_id, outcome.ref.uri)
        if all_new:
            self._writer.append("slides", table)
        else:
            self._writer.upsert("slides", table)

    def _write_tiles(self, wave: Wave) -> None:
        arriving, leaving = [], dict(wave.present)
        for outcome in wave.outcomes:
            present = wave.present.get(outcome.ref.slide_id)
            if present and self._holds(present, outcome):
                del leaving[outcome.ref.slide_id]  # a wave cut short had got this far
                continue
            arriving += [lance.FragmentMetadata.from_json(text) for text in outcome.fragments]
        if not (arriving or leaving):
            return
        self._writer.commit(
            "tiles",
            lambda tiles: replacement(tiles, leaving, arriving),
            message=f"run {self._run_id}",
        )

    def _holds(self, present: Presence, outcome: SlideOutcome) -> bool:
        same_bytes = present.is_of(outcome.content_id, self._atlas.grid.key)
        return same_bytes and present.tiles == outcome.stored_tiles

    def _write_ledger(self, wave: Wave) -> None:
        outcomes = [outcome for outcome in wave.outcomes if outcome.status != "known"]
        slide_ids = {outcome.ref.slide_id for outcome in outcomes}
        known = read_work_of(self._atlas, slide_ids & self._worked)
        self._worked |= slide_ids
        works = []
        for outcome in outcomes:
            rows, ref = known.get(outcome.ref.slide_id, ()), outcome.ref
            if outcome.status == "unchanged":
                works += [replace(row, uri=ref.uri, stamp=ref.stamp) for row in rows if row.settled]
            else:
                works.append(self._work(outcome, rows))
        record(self._writer, works, superseding=bool(known))

    def _work(self, outcome: SlideOutcome, known: Sequence[Work]) -> Work:
        """The ledger's row; `known` are its rows for the same slide so far."""
        mine = [work for work in known if work.model_id == self._model_id]
        return Work(
            slide_id=outcome.ref.slide_id,
            content_id=outcome.content_id,
            model_id=self._model_id,
            uri=outcome.ref.uri,
            stamp=outcome.ref.stamp,
            status=cast(WorkStatus, outcome.status),  # of the others nothing is recorded anew
            cause=outcome.cause,
            message=outcome.message,
            attempts=max((work.attempts for work in mine), default=0) + 1,
            planned_tiles=outcome.planned_tiles,
            stored_tiles=outcome.stored_tiles,
            reader=outcome.slide.reader if outcome.slide else "",
            bytes_read=outcome.bytes_read,
            seconds=outcome.seconds,
            finished_at=datetime.now(UTC),
            run_id=self._run_id,
        )


def _refused(outcome: SlideOutcome) -> SlideOutcome:
    return outcome.failed(
        SlideForgotten(
            f"{outcome.ref.slide_id} was forgotten, by its name, its bytes or its case",
            remedy="Take it out of the sources; if it is another slide, give it another name.",
        )
    )


def slide_row(outcome: SlideOutcome, run_id: str) -> dict[str, object]:
    """The row of `slides` for a slide that is done or empty."""
    ref, slide = outcome.ref, outcome.slide
    if slide is None:
        raise ValueError(f"the slide {ref.slide_id} is {outcome.status} without facts")
    return {
        **ref.columns,
        "slide_id": ref.slide_id,
        "case_id": ref.case_id,
        "uri": ref.uri,
        "content_id": outcome.content_id,
        "size_bytes": slide.size_bytes,
        "format": slide.format,
        "vendor": slide.vendor,
        "reader": slide.reader,
        "width_px": slide.width_px,
        "height_px": slide.height_px,
        "levels": len(slide.levels),
        "mpp": slide.mpp,
        "mpp_source": slide.mpp_source,
        "objective": slide.objective,
        "tissue_mm2": outcome.tissue_mm2,
        "tiles": outcome.stored_tiles,
        "thumbnail": outcome.thumbnail or None,
        "properties": json.dumps(dict(slide.properties), sort_keys=True),
        "stamp": ref.stamp,
        "run_id": run_id,
    }
