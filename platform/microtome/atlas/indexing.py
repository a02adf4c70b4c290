"""All indices of an atlas that is large enough for them: what `microtome maintain` keeps up."""

from __future__ import annotations

from functools import partial

from microtome.atlas.atlas import Atlas
from microtome.atlas.index_building import LEAST_ROWS, Refreshed, refresh_index
from microtome.atlas.index_coding import Coder, code_here
from microtome.atlas.lance_indices import create_scalar_index, missing_scalar_indices
from microtome.atlas.writer import Writer


def refresh_indices(
    writer: Writer, least_rows: int = LEAST_ROWS, code: Coder = code_here
) -> list[str]:
    """Index the columns people filter by, and each model's vectors.

    Args:
        writer: of the atlas.
        least_rows: see `refresh_index`; also of the indices on columns.
        code: who codes vectors.

    Returns:
        What was done, in words.

    Raises:
        AtlasWriteFailed: the store refuses; running again goes on.
        LeaseLost: another job took over; what it wrote stays.
    """
    atlas, did = Atlas.open(writer.uri), []
    tiles = atlas.tiles
    if tiles.count_rows() >= least_rows:
        missing = missing_scalar_indices(tiles)
        for column, kind in missing.items():
            make = partial(create_scalar_index, column=column, kind=kind)
            writer.transact("tiles", make, unfenced=True)
        if missing:
            did.append(f"indices on {', '.join(missing)}")
    for model_id, card in atlas.models.items():
        became = refresh_index(
            atlas,
            model_id,
            least_rows=least_rows,
            code=code,
            may_publish=writer.check_lease,
        )
        if words := _in_words(became):
            did.append(f"{words} the vector index of {card.name} ({model_id})")
    return did


def _in_words(became: Refreshed) -> str:
    if became.trained:
        return f"{became.added:,} rows, trained anew, into"
    changes = []
    if became.added:
        changes.append(f"{became.added:,} rows into")
    if became.removed:
        changes.append(f"{became.removed:,} rows out of")
    return " and ".join(changes)
