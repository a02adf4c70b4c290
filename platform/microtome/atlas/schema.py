"""The tables of an atlas, column by column.

tiles   one row per tile; what is searched
slides  one row per slide in the atlas; what is shown
work    the ledger: one row per (slide, content, model)
runs    one row per run of a job

Further columns, one per manifest column, follow in `tiles` and `slides`; one vector column per
model follows in `tiles`, named by `vector_column`. What a column means stands in its field's
metadata (`doc`), so it travels with the data; `platform/README.md` lists all of them.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from microtome.models.card import ModelCard

FORMAT_VERSION = 2  # `format` says what changed
PRIMARY_KEY = {b"lance-schema:unenforced-primary-key:position": b"1"}


def _column(name: str, kind: pa.DataType, doc: str, *, key: bool = False) -> pa.Field:
    metadata = {b"doc": doc.encode()} | (PRIMARY_KEY if key else {})
    return pa.field(name, kind, nullable=not key, metadata=metadata)


TILES = pa.schema(
    [
        _column("tile_id", pa.string(), "hash of content id, grid, x and y", key=True),
        _column("slide_id", pa.string(), "the slide it was cut from"),
        _column("case_id", pa.string(), "patient or case; null where the manifest names none"),
        _column("x", pa.int32(), "left edge, level-0 px"),
        _column("y", pa.int32(), "top edge, level-0 px"),
        _column("size_px", pa.int32(), "side of the square, level-0 px"),
        _column("tissue", pa.float32(), "fraction of the tile that is tissue, 0 to 1"),
        _column("sharpness", pa.float32(), "focus measure, see microtome.tiles.quality; 0 is flat"),
        _column("run_id", pa.string(), "the run that wrote it"),
    ]
)

SLIDES = pa.schema(
    [
        _column("slide_id", pa.string(), "name, unique in the atlas", key=True),
        _column("case_id", pa.string(), "patient or case; null where the manifest names none"),
        _column("uri", pa.string(), "where it was read from"),
        _column("content_id", pa.string(), "hash of size, header and sampled bytes"),
        _column("size_bytes", pa.int64(), "of all its files"),
        _column("format", pa.string(), "file format"),
        _column("vendor", pa.string(), "scanner vendor as the reader names it"),
        _column("reader", pa.string(), "the reader that opened it"),
        _column("width_px", pa.int64(), "level 0"),
        _column("height_px", pa.int64(), "level 0"),
        _column("levels", pa.int32(), "number of pyramid levels"),
        _column("mpp", pa.float64(), "µm per level-0 px"),
        _column("mpp_source", pa.string(), "slide, manifest, objective or assumed"),
        _column("objective", pa.float64(), "magnification; null where unknown"),
        _column("tissue_mm2", pa.float64(), "area of the tissue mask, mm²"),
        _column("tiles", pa.int64(), "tiles stored; 0 where the slide holds no tissue"),
        _column("thumbnail", pa.binary(), "small JPEG of the tissue"),
        _column("properties", pa.string(), "further scanner facts from an allow-list, JSON"),
        _column("stamp", pa.string(), "size and mtime or etag when read"),
        _column("run_id", pa.string(), "the run that wrote it"),
    ]
)

WORK = pa.schema(
    [
        _column("work_id", pa.string(), "hash of slide id, content id and model id", key=True),
        _column("slide_id", pa.string(), "the slide"),
        _column("content_id", pa.string(), "hash of its bytes; empty where unreadable"),
        _column("model_id", pa.string(), "the model"),
        _column("uri", pa.string(), "where it was read from"),
        _column(
            "stamp", pa.string(), "size and mtime or etag when read: a hint that a look is due"
        ),
        _column("status", pa.string(), "done, empty or failed"),
        _column("cause", pa.string(), "slug of the error; empty unless failed"),
        _column("message", pa.string(), "the error's text; empty unless failed"),
        _column("attempts", pa.int32(), "how many runs have tried"),
        _column("planned_tiles", pa.int64(), "tiles that the grid and the tissue mask asked for"),
        _column("stored_tiles", pa.int64(), "tiles in the atlas"),
        _column("reader", pa.string(), "the reader used; empty where none opened it"),
        _column("bytes_read", pa.int64(), "taken from the file or store; null if lost in a crash"),
        _column("seconds", pa.float64(), "wall time in the worker; null if lost in a crash"),
        _column("finished_at", pa.timestamp("us", tz="UTC"), "when the ledger was written"),
        _column("run_id", pa.string(), "the run that wrote it"),
    ]
)

RUNS = pa.schema(
    [
        _column("run_id", pa.string(), "time-ordered", key=True),
        _column("command", pa.string(), "index, …"),
        _column("status", pa.string(), "running, finished, interrupted, failed or rolled-back"),
        _column("started_at", pa.timestamp("us", tz="UTC"), "when it started"),
        _column("finished_at", pa.timestamp("us", tz="UTC"), "null while it runs"),
        _column("microtome_version", pa.string(), "of the program"),
        _column("model_id", pa.string(), "the model; empty where none was used"),
        _column("settings", pa.string(), "JSON, without secrets"),
        _column("model_card", pa.string(), "JSON; empty where none was used"),
        _column("slides_done", pa.int64(), "slides with tiles stored by this run"),
        _column("slides_empty", pa.int64(), "slides that hold no tissue"),
        _column("slides_failed", pa.int64(), "slides that failed"),
        _column("tiles", pa.int64(), "stored by this run"),
        _column("bytes_read", pa.int64(), "taken from files or the store"),
        _column("seconds", pa.float64(), "wall time, Ray's start included"),
        _column("tiles_per_s", pa.float64(), "tiles over the time spent on slides"),
        _column("gpu_seconds", pa.float64(), "GPUs held × time; 0 on a CPU"),
    ]
)

TABLES = {"tiles": TILES, "slides": SLIDES, "work": WORK, "runs": RUNS}
VECTOR_PREFIX = "vector_"
CARD_KEY = b"microtome:model_card"


def vector_column(model_id: str) -> str:
    """Name of the vector column of one model in `tiles`."""
    return f"{VECTOR_PREFIX}{model_id}"


def vector_field(card: ModelCard) -> pa.Field:
    """Field of one model's vectors, with its card: float16, half the bytes at the same recall."""
    metadata = {
        b"doc": f"unit vectors of the model {card.name}".encode(),
        CARD_KEY: card.to_json().encode(),
    }
    return pa.field(
        vector_column(card.model_id), pa.list_(pa.float16(), card.dim), metadata=metadata
    )


def work_id(slide_id: str, content_id: str, model_id: str) -> str:
    """Key of the ledger: 128 bits of hex over a slide, its bytes and a model."""
    key = json.dumps([slide_id, content_id, model_id])
    return hashlib.blake2b(key.encode(), digest_size=16).hexdigest()


def tile_ids(content_id: str, grid_key: str, corners: NDArray[np.int64]) -> list[str]:
    """Identity of tiles: the same bytes cut by the same grid give the same ids anywhere.

    Args:
        content_id: of the slide.
        grid_key: `GridSettings.key`.
        corners: (N, 2) int64, level-0 px.

    Returns:
        N hex strings of 128 bits.
    """
    prefix = hashlib.blake2b(f"{content_id}|{grid_key}|".encode(), digest_size=16)
    ids = []
    for x, y in corners.tolist():
        tile = prefix.copy()
        tile.update(f"{x},{y}".encode())
        ids.append(tile.hexdigest())
    return ids
