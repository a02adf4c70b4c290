"""A shorter model out of a longer one, where training made a prefix of its vectors useful."""

from __future__ import annotations

from dataclasses import replace

from microtome.errors import SettingError
from microtome.models.card import ModelCard
from microtome.models.checkpoint import load_checkpoint, save_checkpoint
from microtome.models.fetching import local_copy
from microtome.models.lgffem import LGFFEM


def shorten_checkpoint(folder: str, target: str, dim: int) -> ModelCard:
    """Write a model that gives the first `dim` values of another's vectors, at unit length.

    It is a model of its own, with its own id; metrics measured on the longer vectors aren't kept.

    Args:
        folder: checkpoint of an LGFFEM, of this machine or a store.
        target: where the new one goes.
        dim: one of its `matryoshka_dims`.

    Raises:
        SettingError: the model wasn't trained for prefixes of this length.
        CheckpointInvalid: the folder isn't what its card says.
    """
    with local_copy(folder) as copy:
        card, module = load_checkpoint(copy)
    trained = module.config.matryoshka_dims if isinstance(module, LGFFEM) else ()
    if not isinstance(module, LGFFEM) or dim not in trained:
        lengths = ", ".join(str(length) for length in trained) or "none"
        raise SettingError(
            f"{folder} can't be shortened to {dim} values: prefixes it was trained for: {lengths}",
            remedy="Train it with matryoshka_dims that hold this length.",
        )
    module.config = replace(module.config, output_dim=dim)
    shorter = replace(
        card,
        architecture=module.config.to_architecture(),
        dim=dim,
        metrics={},
        notes=f"{card.notes} The first {dim} values of {card.name}'s vectors.".strip(),
    )
    return save_checkpoint(target, module, shorter)
