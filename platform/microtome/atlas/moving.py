"""A slide goes by another name, or leaves; nothing is embedded again.

A change of name goes in this order, so that a run that is killed anywhere leaves what the next one
can finish:

1. `slides`  the row under the new name, beside the old one;
2. `tiles`   all tiles of the slide change their name in one commit;
3. `work`    the ledger's rows under the new name, then those under the old one go;
4. `slides`  the old row goes.

So two rows of `slides` with the same bytes are a change of name that was cut short. Where the tiles
lie says how far it had come: the row that has them stays.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from microtome.atlas.atlas import Atlas
from microtome.atlas.ledger import read_work_of, record
from microtome.atlas.presence import Presence, find_tiles, replacement
from microtome.atlas.sql import literal, one_of, quoted
from microtome.atlas.writer import Writer
from microtome.slides.slide import Scalar, SlideRef


def rename(writer: Writer, atlas: Atlas, moves: Mapping[str, SlideRef], run_id: str) -> None:
    """Let slides go by other names.

    Args:
        writer: of the atlas.
        atlas: that holds them.
        moves: the slides as they are wanted now, by their name in the atlas.
        run_id: the run that found them.
    """
    if not moves:
        return
    # Whoever had the new name has other bytes now, or he would not be asked for it.
    names = [ref.slide_id for ref in moves.values()]
    taken = atlas.rows("slides", columns=["slide_id"], filter=one_of("slide_id", names))
    withdraw(
        writer, taken["slide_id"].to_pylist(), find_tiles(atlas, taken["slide_id"].to_pylist())
    )
    rows = atlas.rows("slides", filter=one_of("slide_id", moves))
    renamed = [row | _facts(moves[row["slide_id"]], run_id) for row in rows.to_pylist()]
    writer.upsert("slides", pa.Table.from_pylist(renamed, schema=rows.schema))
    for old, ref in moves.items():
        values = {name: literal(value) for name, value in _names(ref).items()}
        writer.update("tiles", values, f"slide_id = {quoted(old)}")
    known = read_work_of(atlas, moves)
    record(
        writer,
        [
            replace(work, slide_id=moves[old].slide_id, uri=moves[old].uri, stamp=moves[old].stamp)
            for old, works in known.items()
            for work in works
            if work.settled
        ],
    )
    _drop(writer, list(moves))


def finish_renaming(writer: Writer, atlas: Atlas) -> tuple[str, ...]:
    """Finish what a killed run left of a change of name; returns the names that went."""
    columns = ["slide_id", "content_id", "run_id"]
    by_content = defaultdict(list)
    for row in atlas.rows("slides", columns=columns).to_pylist():
        by_content[row["content_id"]].append(row)
    doubled = [rows for rows in by_content.values() if len(rows) > 1]
    if not doubled:
        return ()
    present = find_tiles(atlas, [row["slide_id"] for rows in doubled for row in rows])
    old = []
    for rows in doubled:
        # A slide without tissue has no tiles to tell by: there the newer run's row stays.
        rows.sort(key=lambda row: (row["slide_id"] in present, row["run_id"]))
        old += [row["slide_id"] for row in rows[:-1]]
    _drop(writer, old)
    return tuple(old)


def withdraw(writer: Writer, slide_ids: Collection[str], present: Mapping[str, Presence]) -> None:
    """Take slides out: the ledger's word first, the row that shows the need for it last.

    Args:
        writer: of the atlas.
        slide_ids: which.
        present: their tiles, of those that have some.
    """
    if not slide_ids:
        return
    writer.delete("work", f"{one_of('slide_id', slide_ids)} AND status <> 'failed'")
    if present:
        writer.commit("tiles", lambda tiles: replacement(tiles, present, []))
    writer.delete("slides", one_of("slide_id", slide_ids))


def _names(ref: SlideRef) -> dict[str, Scalar]:
    """What changes of a slide's tiles; where no manifest describes it, case and columns stay."""
    described = {**ref.columns, "case_id": ref.case_id} if ref.is_described else {}
    return described | {"slide_id": ref.slide_id}


def _facts(ref: SlideRef, run_id: str) -> dict[str, object]:
    return {**_names(ref), "uri": ref.uri, "stamp": ref.stamp, "run_id": run_id}


def _drop(writer: Writer, old: Sequence[str]) -> None:
    writer.delete("work", one_of("slide_id", old))
    writer.delete("slides", one_of("slide_id", old))
