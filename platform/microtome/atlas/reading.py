"""What the atlas says about itself, as plain rows for tables and JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

from microtome.atlas import schema
from microtome.atlas.atlas import Atlas
from microtome.atlas.ledger import Work, WorkStatus, read_work
from microtome.atlas.sql import one_of
from microtome.atlas.storage import location
from microtome.errors import ModelNotFound, SettingError

_LEDGER = (
    "uri",
    "status",
    "cause",
    "message",
    "attempts",
    "planned_tiles",
    "bytes_read",
    "seconds",
)
_FACTS = [name for name in schema.SLIDES.names if name not in {"thumbnail", "properties", "stamp"}]
_RUN_COLUMNS = [name for name in schema.RUNS.names if name not in {"settings", "model_card"}]


def list_slides(atlas: Atlas, status: str | None = None) -> list[dict[str, Any]]:
    """Every slide that was ever wanted, by slide id; with a status, only those.

    Returns:
        One row per slide: the columns of `slides` (without picture and properties; None, and
        0 tiles, where the slide failed before there were any facts) and manifest columns, then
        the newest word of the ledger: uri, status, cause, message, attempts, planned_tiles,
        reader, bytes_read and seconds.

    Raises:
        SettingError: there is no such status.
        AtlasError: a table can't be read.
    """
    if status is not None and status not in get_args(WorkStatus):
        raise SettingError(f"status must be one of {', '.join(get_args(WorkStatus))}, not {status}")
    newest: dict[str, Work] = {}
    for work in sorted(read_work(atlas), key=lambda work: work.finished_at):
        newest[work.slide_id] = work
    names = [*_FACTS, *atlas.columns.names]
    facts = {row["slide_id"]: row for row in atlas.rows("slides", columns=names).to_pylist()}
    nothing = dict.fromkeys(names) | {"tiles": 0}
    return [
        facts.get(slide_id, nothing | {"slide_id": slide_id})
        | {name: getattr(work, name) for name in _LEDGER}
        for slide_id, work in sorted(newest.items())
        if status is None or work.status == status
    ]


def describe(atlas: Atlas) -> dict[str, Any]:
    """The atlas at a glance.

    Returns:
        JSON values: uri, format_version, grid, models (each with the tiles that have a vector of
        it, and their share of all), columns (name → type), tiles, slides (status → count), bytes
        on disk (None on an object store, where counting is slow) and runs, newest first, without
        settings and card.

    Raises:
        AtlasError: a table can't be read.
    """
    tiles, covered = atlas.tiles.count_rows(), coverage(atlas)
    counted = Counter(work["status"] for work in list_slides(atlas))
    runs = atlas.rows("runs", columns=_RUN_COLUMNS).sort_by([("run_id", "descending")])
    return {
        "uri": atlas.uri,
        "format_version": atlas.format_version,
        "grid": asdict(atlas.grid),
        "models": [
            {
                "model_id": card.model_id,
                "name": card.name,
                "dim": card.dim,
                "mpp": card.mpp,
                "licence": card.licence,
                "notes": card.notes,
                "tiles": covered[card.model_id],
                "coverage": covered[card.model_id] / tiles if tiles else 1.0,
            }
            for card in atlas.models.values()
        ],
        "columns": {column.name: str(column.type) for column in atlas.columns},
        "tiles": tiles,
        "slides": {status: counted[status] for status in get_args(WorkStatus)},
        "bytes": _bytes_on_disk(atlas.uri),
        "runs": [_plain(run) for run in runs.to_pylist()],
    }


def coverage(atlas: Atlas) -> dict[str, int]:
    """How many tiles have a vector of each model that the atlas holds, by model id.

    The ledger says it: to count the vectors themselves would be to read all of them, and
    `microtome verify` does compare the two.

    Raises:
        AtlasError: a table can't be read.
    """
    done = atlas.rows("work", columns=["model_id", "stored_tiles"], filter="status = 'done'")
    covered = dict.fromkeys(atlas.models, 0)
    for model_id, tiles in zip(*done.to_pydict().values(), strict=True):
        if model_id in covered:
            covered[model_id] += tiles
    return covered


def model_source(atlas: Atlas, model_id: str | None = None) -> str:
    """How the user named a model when it was last used for this atlas: `--model`'s value.

    Args:
        atlas: whose runs are looked at.
        model_id: of the model; None for whichever of the atlas's models was used last.

    Raises:
        ModelNotFound: no run says it.
        AtlasError: a table can't be read.
    """
    for settings in _run_settings(atlas, atlas.models if model_id is None else [model_id]):
        if named := settings.get("model"):
            return str(named)
    raise ModelNotFound(
        f"the atlas {atlas.uri} doesn't say where its model came from", remedy="Pass --model."
    )


def allowed_licences(atlas: Atlas) -> tuple[str, ...]:
    """Licences of weights that were allowed, by name, when its vectors were made; sorted.

    Raises:
        AtlasError: a table can't be read.
    """
    allowed = (run.get("allow_licences", ()) for run in _run_settings(atlas, atlas.models))
    return tuple(sorted({licence for licences in allowed for licence in licences}))


def _run_settings(atlas: Atlas, model_ids: Iterable[str]) -> list[dict[str, Any]]:
    """What the runs that gave the atlas vectors of some models were asked to do, newest first."""
    runs = atlas.rows("runs", columns=["run_id", "settings"], filter=one_of("model_id", model_ids))
    newest_first = runs.sort_by([("run_id", "descending")])
    return [json.loads(text) for text in newest_first["settings"].to_pylist()]


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """The row with its times as ISO 8601 text."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in row.items()
    }


def _bytes_on_disk(uri: str) -> int | None:
    if "://" in uri:
        return None
    return sum(path.stat().st_size for path in Path(location(uri)).rglob("*") if path.is_file())
