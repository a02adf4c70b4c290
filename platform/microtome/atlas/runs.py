"""The runs of a job: when, with which settings and model, and what came of it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import lance
import pyarrow as pa

from microtome import __version__
from microtome.atlas.schema import RUNS
from microtome.atlas.sql import quoted
from microtome.atlas.tables import newest_table
from microtome.atlas.versions import finish_tags, tag_run
from microtome.atlas.writer import Writer
from microtome.models.card import ModelCard

RunStatus = Literal["finished", "interrupted", "failed"]
ID_TIME = "%Y%m%dT%H%M%S%f"


@dataclass(frozen=True, slots=True)
class RunTotals:
    """What a run did.

    Attributes:
        slides_done: slides with tiles stored.
        slides_empty: slides that hold no tissue.
        slides_failed: slides that failed.
        tiles: tiles stored.
        bytes_read: taken from files or the store.
        seconds: wall time, Ray's start included.
        tiles_per_s: tiles over the time spent on slides.
        gpu_seconds: GPUs held × time; 0 on a CPU.
    """

    slides_done: int = 0
    slides_empty: int = 0
    slides_failed: int = 0
    tiles: int = 0
    bytes_read: int = 0
    seconds: float = 0.0
    tiles_per_s: float = 0.0
    gpu_seconds: float = 0.0


def start_run(
    writer: Writer, command: str, settings: Mapping[str, Any], card: ModelCard | None = None
) -> str:
    """Note that a run starts; runs that a killed process left `running` become `interrupted`.

    Args:
        writer: of the atlas.
        command: `index`, ….
        settings: JSON values, without secrets.
        card: the model it uses, if any.

    Returns:
        The run's id; ids sort by time, and in the order of the runs also where clocks disagree.

    Raises:
        AtlasWriteFailed: the store refuses the write.
    """
    started = datetime.now(UTC)
    run_id = _next_id(writer.uri, started)
    row = {
        "run_id": run_id,
        "command": command,
        "status": "running",
        "started_at": started,
        "microtome_version": __version__,
        "model_id": card.model_id if card else "",
        "settings": json.dumps(dict(settings), sort_keys=True, default=str),
        "model_card": card.to_json() if card else "",
        **asdict(RunTotals()),
    }
    finish_tags(writer)  # what a killed run left is a state as well: that before this run
    writer.transact("runs", _close_killed_runs)
    writer.append("runs", pa.Table.from_pylist([row], schema=RUNS))
    return run_id


def _next_id(uri: str, now: datetime) -> str:
    """An id after those of all runs so far, whose hosts' clocks may have been ahead."""
    known = newest_table(uri, "runs").to_table(columns=["run_id"])["run_id"].to_pylist()
    last = max(known, default="")
    if f"{now:{ID_TIME}}" <= last:
        at = datetime.strptime(last.partition("-")[0], ID_TIME).replace(tzinfo=UTC)
        now = at + timedelta(microseconds=1)
    return f"{now:{ID_TIME}}-{secrets.token_hex(2)}"


def _close_killed_runs(runs: lance.LanceDataset) -> None:
    running = "status = 'running'"
    if runs.count_rows(running):
        runs.update({"status": "'interrupted'"}, where=running, conflict_retries=0)


def finish_run(writer: Writer, run_id: str, status: RunStatus, totals: RunTotals) -> None:
    """Note how a run ended, and tag the atlas as it is now with the run's id.

    Raises:
        AtlasWriteFailed: the store refuses the write.
    """
    now = datetime.now(UTC)
    ended = {"status": status, "finished_at": now, **asdict(totals)}

    def end(runs: lance.LanceDataset) -> None:
        (row,) = runs.to_table(filter=f"run_id = {quoted(run_id)}").to_pylist()
        mended = pa.Table.from_pylist([row | ended], schema=RUNS)
        merge = runs.merge_insert("run_id").when_matched_update_all()
        merge.conflict_retries(0).execute(mended)

    writer.transact("runs", end)
    tag_run(writer, run_id)
