"""A backfill that is killed anywhere and run again ends as one that wasn't."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from microtome.atlas.atlas import Atlas
from microtome.atlas.verify import verify
from support.bare_embed import bare_embed, index_quilts
from support.killed_embed import embed_until

AT_LEAST_STEPS = 12
NOT_COMPARED = {"run_id", "finished_at", "seconds", "bytes_read"}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas of one model, some of whose fragments hold several slides."""
    atlas = index_quilts(tmp_path_factory.mktemp("fresh"))
    atlas.tiles.optimize.compact_files(target_rows_per_fragment=8)
    assert 1 < len(atlas.tiles.get_fragments()) < 4
    return Path(atlas.uri)


@pytest.fixture(scope="module")
def uninterrupted(fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    copy = shutil.copytree(fresh, tmp_path_factory.mktemp("uninterrupted") / "atlas")
    bare_embed(str(copy))
    return state(copy)


def state(uri: Path) -> dict[str, Any]:
    """Every row of the tables, in a fixed order, but for what tells of the run itself."""
    atlas, found = Atlas.open(str(uri)), {}
    for table, key in (("tiles", "tile_id"), ("slides", "slide_id"), ("work", "work_id")):
        rows = atlas.dataset(table).to_table()
        kept = [name for name in rows.column_names if name not in NOT_COMPARED]
        found[table] = rows.select(kept).sort_by(key).to_pylist()
    found["schema"] = atlas.tiles.schema
    found["waiting"] = sorted(path.name for path in uri.glob("_embed/*"))
    return found


def test_killed_before_each_durable_step_and_run_again_it_ends_the_same(
    fresh: Path, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    for step in range(100):
        copy = shutil.copytree(fresh, tmp_path / str(step))
        through = embed_until(str(copy), step)
        if not through:
            bare_embed(str(copy))
        assert state(copy) == uninterrupted, f"killed before step {step}"
        assert not verify(str(copy), vectors=True).broken
        if through:
            break
    assert AT_LEAST_STEPS <= step < 99


def test_killed_again_and_again_it_still_ends_the_same(
    fresh: Path, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    copy = shutil.copytree(fresh, tmp_path / "atlas")
    kills = 0
    for step in (2, 5, 6, 7, 7, 4, 99):
        kills += not embed_until(str(copy), step)

    assert kills >= 3
    assert state(copy) == uninterrupted
