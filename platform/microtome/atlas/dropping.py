"""A model leaves an atlas: its column, its rows in the ledger, and what was derived from it.

The ledger goes first and the column last. Whatever is left by a job that is killed, the column
says that the model is still held, so the same command goes on from there; and were the model
embedded again instead, the column's vectors would be found and written down.
"""

from __future__ import annotations

from dataclasses import dataclass

import lance

from microtome.atlas.atlas import Atlas
from microtome.atlas.calibration_files import drop_stored
from microtome.atlas.index_files import drop_index
from microtome.atlas.ledger import read_work
from microtome.atlas.mosaic_files import drop_mosaics
from microtome.atlas.recovery import recover
from microtome.atlas.runs import RunTotals, finish_run, start_run
from microtome.atlas.schema import vector_column
from microtome.atlas.sql import quoted
from microtome.atlas.staging_tables import discard_staged
from microtome.atlas.writer import Writer
from microtome.errors import ModelNotFound, SettingError
from microtome.models.card import ModelCard


@dataclass(frozen=True, slots=True)
class Dropped:
    """A model that is gone.

    Attributes:
        run_id: its row in `runs`.
        model_id: the model.
        name: of the model, for people.
        left: names of the models that remain.
    """

    run_id: str
    model_id: str
    name: str
    left: tuple[str, ...]


def drop_model(writer: Writer, named: str) -> Dropped:
    """Remove a model's vectors; their bytes go with the next `maintain`.

    Args:
        writer: of the atlas.
        named: its id, or its name where only one model has it.

    Raises:
        ModelNotFound: the atlas holds no such model.
        SettingError: the name is that of several; or slides would be left without any vector.
        AtlasWriteFailed: the store refuses; running again goes on from there.
    """
    atlas = Atlas.open(writer.uri)
    card = find_model(atlas, named)
    recover(writer, atlas)
    _check_dispensable(atlas, card)
    run_id = start_run(writer, "drop-model", {"model_id": card.model_id}, card)
    writer.delete("work", f"model_id = {quoted(card.model_id)}")
    for drop_derived in (drop_index, drop_mosaics, discard_staged, drop_stored):
        writer.check_lease()  # a successor may embed the model again
        drop_derived(writer.uri, card.model_id)
    column = vector_column(card.model_id)

    def drop(tiles: lance.LanceDataset) -> None:
        if column in tiles.schema.names:
            tiles.drop_columns([column])

    writer.transact("tiles", drop)
    finish_run(writer, run_id, "finished", RunTotals())
    left = tuple(one.name for one in atlas.models.values() if one is not card)
    return Dropped(run_id, card.model_id, card.name, left)


def find_model(atlas: Atlas, named: str) -> ModelCard:
    """The model that an atlas holds under an id or a name.

    Raises:
        ModelNotFound: it holds no such model.
        SettingError: several have that name.
    """
    if named in atlas.models:
        return atlas.models[named]
    found = [card for card in atlas.models.values() if card.name == named]
    if len(found) == 1:
        return found[0]
    held = ", ".join(f"{card.name} ({model_id})" for model_id, card in atlas.models.items())
    if found:
        raise SettingError(
            f"several models of the atlas {atlas.uri} are called {named}: {held}",
            remedy="Give the model's id.",
        )
    raise ModelNotFound(
        f"the atlas {atlas.uri} holds no model {named}, but {held}",
        remedy="Give the name or the id of one that it holds.",
    )


def _check_dispensable(atlas: Atlas, card: ModelCard) -> None:
    """Raise `SettingError` where a slide would be left without a vector."""
    others = [one for one in atlas.models.values() if one.model_id != card.model_id]
    if not others:
        raise SettingError(
            f"{card.name} is the only model of the atlas {atlas.uri}",
            remedy="Embed another first with `microtome embed --model NAME`, or delete the atlas.",
        )
    settled = [work for work in read_work(atlas) if work.settled]
    kept = {one.model_id for one in others}
    theirs = {work.slide_id for work in settled if work.model_id in kept}
    alone = sorted({work.slide_id for work in settled} - theirs)
    if alone:
        raise SettingError(
            f"{len(alone)} slides of the atlas {atlas.uri} have vectors of {card.name} only, "
            f"such as {alone[0]}",
            remedy=f"Run `microtome embed --model` for another model first ({others[0].name}).",
        )
