"""Runs: one row each, also for those that a kill cut short."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from microtome.atlas.runs import RunTotals, finish_run, start_run
from support.made_atlas import CARD, MadeAtlas


@pytest.fixture
def made(tmp_path: Path) -> MadeAtlas:
    return MadeAtlas(str(tmp_path))


def rows(made: MadeAtlas) -> dict[str, dict]:
    return {row["run_id"]: row for row in made.atlas.runs.to_table().to_pylist()}


def test_a_run_keeps_its_settings_and_model(made: MadeAtlas):
    row = rows(made)[made.run_id]
    assert (row["status"], row["command"], row["finished_at"]) == ("running", "index", None)
    assert json.loads(row["settings"]) == {"mpp": 0.5}
    assert json.loads(row["model_card"])["model_id"] == row["model_id"] == CARD.model_id


@pytest.mark.parametrize("status", ["finished", "interrupted", "failed"])
def test_a_run_ends_with_its_totals(made: MadeAtlas, status):
    finish_run(made.writer, made.run_id, status, RunTotals(slides_done=2, tiles=10, seconds=4.0))
    row = rows(made)[made.run_id]
    assert (row["status"], row["slides_done"], row["tiles"], row["seconds"]) == (status, 2, 10, 4.0)
    assert row["finished_at"] >= row["started_at"]


def test_a_run_that_was_killed_is_seen_as_such(made: MadeAtlas):
    second = start_run(made.writer, "index", {}, CARD)
    assert {run: row["status"] for run, row in rows(made).items()} == {
        made.run_id: "interrupted",
        second: "running",
    }


def test_run_ids_sort_by_time(made: MadeAtlas):
    ids = [made.run_id, *(start_run(made.writer, "index", {}, CARD) for _ in range(3))]
    assert ids == sorted(set(ids))


def test_run_ids_follow_each_other_where_a_clock_was_ahead(made: MadeAtlas):
    ahead = f"{int(made.run_id[:4]) + 4}{made.run_id[4:21]}-ffff"
    made.writer.update("runs", {"run_id": f"'{ahead}'"}, "true")
    ids = [ahead, *(start_run(made.writer, "index", {}, CARD) for _ in range(3))]
    assert ids == sorted(set(ids))
