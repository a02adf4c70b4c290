"""A shorter model out of a longer one, where training made a prefix of its vectors useful."""

from __future__ import annotations

from dataclasses import replace

from microtome.errors import SettingError
from microtome.models.card import ModelCard
from microtome.models.checkpoint import save_checkpoint
from microtome.models.encoder import DEFAULT_OPTIONS, EncoderOptions
from microtome.models.lgffem import LGFFEM
from microtome.models.registry import load_module


def shorten_checkpoint(
    name: str, target: str, dim: int, options: EncoderOptions = DEFAULT_OPTIONS
) -> ModelCard:
    """Write a model that gives the first `dim` values of another's vectors, at unit length.

    It is a model of its own, with its own id; metrics measured on the longer vectors aren't kept.

    Args:
        name: of an LGFFEM, as a rule its folder; see `registry`.
        target: the folder that the new one goes to.
        dim: one of its `matryoshka_dims`.
        options: licences.

    Raises:
        SettingError: the model wasn't trained for prefixes of this length.
        ModelError: it can't be loaded, see `load_encoder`, or the new one can't be written.
    """
    card, module = load_module(name, options)
    trained = module.config.matryoshka_dims if isinstance(module, LGFFEM) else ()
    if not isinstance(module, LGFFEM) or dim not in trained:
        lengths = ", ".join(str(length) for length in trained) or "none"
        raise SettingError(
            f"{name} can't be shortened to {dim} values: prefixes it was trained for: {lengths}",
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
