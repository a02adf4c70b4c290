"""What an atlas holds, as one token sees it."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import asdict
from threading import Lock
from typing import Any, Final

import pyarrow.compute as pc

from microtome.atlas.atlas import Atlas
from microtome_serve.access import Access
from microtome_serve.filters import filterable

KEPT: Final = 64  # tokens' rows


class Facts:
    """Counts what there is in one atlas; kept as long as no table changes."""

    def __init__(self, atlas: Atlas) -> None:
        self._atlas = atlas
        self._kept: OrderedDict[tuple[Any, ...], dict[str, Any]] = OrderedDict()
        self._lock = Lock()

    def of(self, access: Access) -> dict[str, Any]:
        """Version, grid, models, columns and counts: see `schemas.AtlasFacts`.

        Raises:
            AtlasError: a table can't be read.
        """
        tables = [self._atlas.tiles, self._atlas.slides, self._atlas.work]
        key = (*(table.version for table in tables), access.rows)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        facts = _counted(self._atlas, access.rows)
        with self._lock:
            self._kept[key] = facts
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return facts


def _counted(atlas: Atlas, rows: str | None) -> dict[str, Any]:
    tiles = atlas.tiles
    count = tiles.count_rows(filter=rows)
    slides = atlas.rows("slides", columns=["slide_id", "case_id"], filter=rows)
    done = atlas.rows(
        "work", columns=["slide_id", "model_id", "stored_tiles"], filter="status = 'done'"
    )
    done = done.filter(pc.is_in(done["slide_id"], slides["slide_id"]))
    covered = dict.fromkeys(atlas.models, 0)
    for model_id, stored in zip(
        done["model_id"].to_pylist(), done["stored_tiles"].to_pylist(), strict=True
    ):
        if model_id in covered:
            covered[model_id] += stored
    return {
        "tiles_version": tiles.version,
        "grid": asdict(atlas.grid),
        "models": [
            {
                "model_id": card.model_id,
                "name": card.name,
                "dim": card.dim,
                "licence": card.licence,
                "tiles": covered[card.model_id],
                "coverage": covered[card.model_id] / count if count else 1.0,
            }
            for card in atlas.models.values()
        ],
        "fields": {field.name: str(field.type) for field in filterable(tiles.schema)},
        "tiles": count,
        "slides": len(slides),
        "cases": len(pc.unique(slides["case_id"].drop_null())),
    }
