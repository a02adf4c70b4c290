"""What a run does first: finish, or undo, what a killed run left between two commits.

What was being forgotten is forgotten, and a rollback under way goes to its end. Then waves:

The committer writes `slides`, then `tiles`, then `work` (see `commit`). So a row in `slides` that
no row of the ledger settles belongs to a wave that was cut short, and its tiles tell how far:

- they are all there: the ledger row is written, and nothing is embedded again;
- they aren't: the slide is withdrawn and is pending again. If its bytes had changed, the old tiles
  go as well, for the file they were cut from is no more and their slide's facts are overwritten.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from microtome.atlas import forgetting, rollback
from microtome.atlas.atlas import Atlas
from microtome.atlas.ledger import Work, read_work_of, record
from microtome.atlas.moving import finish_renaming, withdraw
from microtome.atlas.presence import Presence, find_tiles
from microtome.atlas.sql import one_of
from microtome.atlas.writer import Writer

_FACTS = ["slide_id", "content_id", "uri", "stamp", "reader", "tiles", "run_id"]


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was found.

    Attributes:
        mended: slides that are complete and that the ledger knows again.
        withdrawn: slides that are to be indexed again.
        renamed: names that slides no longer go by.
    """

    mended: tuple[str, ...] = ()
    withdrawn: tuple[str, ...] = ()
    renamed: tuple[str, ...] = ()


def recover(writer: Writer, atlas: Atlas) -> Recovered:
    """Make the tables agree; to be called before the ledger is read.

    Raises:
        AtlasWriteFailed: the store refuses a write.
    """
    forgetting.finish(writer)
    rollback.finish(writer)
    unsettled = _unsettled(atlas)
    present = find_tiles(atlas, [row["slide_id"] for row in unsettled])
    whole = [row for row in unsettled if _is_whole(row, present.get(row["slide_id"]), atlas)]
    _mend(writer, atlas, whole)
    mended = tuple(row["slide_id"] for row in whole)
    withdrawn = tuple(row["slide_id"] for row in unsettled if row["slide_id"] not in mended)
    withdraw(writer, withdrawn, {name: present[name] for name in withdrawn if name in present})
    return Recovered(mended, withdrawn, finish_renaming(writer, atlas))


def _unsettled(atlas: Atlas) -> list[dict[str, Any]]:
    """Rows of `slides` whose content no row of the ledger calls done or empty."""
    settled = atlas.rows("work", columns=["slide_id", "content_id"], filter="status <> 'failed'")
    known = set(zip(*settled.to_pydict().values(), strict=True))
    rows = atlas.rows("slides", columns=_FACTS).to_pylist()
    return [row for row in rows if (row["slide_id"], row["content_id"]) not in known]


def _is_whole(row: dict[str, Any], present: Presence | None, atlas: Atlas) -> bool:
    if present is None:
        return bool(row["tiles"] == 0)
    same_bytes = present.is_of(row["content_id"], atlas.grid.key)
    return same_bytes and present.tiles == row["tiles"]


def _mend(writer: Writer, atlas: Atlas, rows: list[dict[str, Any]]) -> None:
    """Write the ledger rows that are missing; what only the worker knew stays null."""
    if not rows:
        return
    run_models = atlas.rows(
        "runs",
        columns=["run_id", "model_id"],
        filter=one_of("run_id", [row["run_id"] for row in rows]),
    )
    model_of = dict(zip(*run_models.to_pydict().values(), strict=True))
    known = read_work_of(atlas, [row["slide_id"] for row in rows])
    record(
        writer,
        [
            Work(
                slide_id=row["slide_id"],
                content_id=row["content_id"],
                model_id=model_of[row["run_id"]],
                uri=row["uri"],
                stamp=row["stamp"],
                status="done" if row["tiles"] else "empty",
                attempts=max((work.attempts for work in known[row["slide_id"]]), default=0) + 1,
                planned_tiles=row["tiles"],
                stored_tiles=row["tiles"],
                reader=row["reader"],
                finished_at=datetime.now(UTC),
                run_id=row["run_id"],
            )
            for row in rows
        ],
    )
