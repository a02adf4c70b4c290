"""Whether two atlases hold the same, row by row."""

from __future__ import annotations

from typing import Any

from microtome.atlas.atlas import Atlas

OF_THE_RUN = {"run_id", "finished_at", "seconds", "bytes_read", "attempts"}
"""What tells of the run that wrote a row, and what a crash loses; nothing of the slide itself."""


def rows_of(uri: str) -> dict[str, list[dict[str, Any]]]:
    """Every row of the tables in a fixed order, but for what tells of the run."""
    atlas, found = Atlas.open(uri), {}
    for table, key in (("tiles", "tile_id"), ("slides", "slide_id"), ("work", "work_id")):
        rows = atlas.dataset(table).to_table()
        kept = [name for name in rows.column_names if name not in OF_THE_RUN]
        found[table] = rows.select(kept).sort_by(key).to_pylist()
    for row in found["work"]:
        if row["status"] == "failed":
            row["planned_tiles"] = None  # how far the try came
    return found
