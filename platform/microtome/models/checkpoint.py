"""A model as a folder: `weights.safetensors` and `card.json`, each of which proves the other.

All weights are in the folder, a frozen backbone's too, so that loading needs no hub. The card is
written last: a folder whose writing was cut short has no card, or one that doesn't fit.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from microtome.errors import CheckpointInvalid, ModelError
from microtome.models.architectures import build_module
from microtome.models.card import ModelCard

CARD_FILE = "card.json"
WEIGHTS_FILE = "weights.safetensors"


def weights_sha256(weights: Mapping[str, Tensor]) -> str:
    """Hash names, dtypes, shapes and bytes in the order of names; hex."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_checkpoint(folder: str | Path, module: nn.Module, card: ModelCard) -> ModelCard:
    """Write a model's folder, replacing what is there.

    Args:
        folder: made where missing.
        module: its whole state is stored.
        card: its `weights_sha256` is set here.

    Returns:
        The card as stored.

    Raises:
        ModelError: the folder can't be written; a model that was there before is still there.
    """
    weights = {name: tensor.cpu().contiguous() for name, tensor in module.state_dict().items()}
    card = replace(card, weights_sha256=weights_sha256(weights))
    try:
        _write(Path(folder), weights, card)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"the model folder {folder} can't be written: {error}",
            remedy="Is it a folder, may you write there, and is there space on its disk?",
        ) from error
    return card


def _write(folder: Path, weights: dict[str, Tensor], card: ModelCard) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    parts = {name: folder / f"{name}.part" for name in (WEIGHTS_FILE, CARD_FILE)}
    try:
        save_file(weights, parts[WEIGHTS_FILE])
        parts[CARD_FILE].write_text(card.to_json(), encoding="utf-8")
        for name, part in parts.items():
            os.replace(part, folder / name)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def read_card(folder: str | Path) -> ModelCard:
    """Read the card alone; the weights are not looked at.

    Raises:
        CheckpointInvalid: no card, or no valid one.
    """
    path = Path(folder) / CARD_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointInvalid(
            f"the model folder {folder} has no readable {CARD_FILE} ({type(error).__name__})",
            remedy=f"A model folder holds {CARD_FILE} and {WEIGHTS_FILE}.",
        ) from None
    return ModelCard.from_json(text)


def load_checkpoint(folder: str | Path) -> tuple[ModelCard, nn.Module]:
    """Read a model's folder; the module is in evaluation mode on the CPU.

    Raises:
        CheckpointInvalid: a file is missing or broken, the weights aren't those of the card, or
            they don't fit its architecture exactly.
    """
    card = read_card(folder)
    return card, module_of(card, read_weights(folder, card), folder)


def module_of(card: ModelCard, weights: Mapping[str, Tensor], folder: str | Path) -> nn.Module:
    """Build a card's module with weights that were read from `folder`; in evaluation mode.

    Raises:
        CheckpointInvalid: they don't fit the card's architecture exactly.
    """
    module = build_module(card.architecture)
    try:
        module.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointInvalid(
            f"the weights in {folder} don't fit the architecture on its card: {reason}"
        ) from None
    return module


def read_weights(
    folder: str | Path, card: ModelCard, *, shown: str | Path | None = None
) -> dict[str, Tensor]:
    """Read the weights and check that they are the card's; by name, on the CPU.

    Args:
        folder: that they lie in.
        card: that they must be of.
        shown: the folder as its user named it, where that is another name.

    Raises:
        CheckpointInvalid: the file is missing, broken or another card's.
    """
    shown = shown or folder
    try:
        weights = load_file(Path(folder) / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise CheckpointInvalid(
            f"{WEIGHTS_FILE} in the model folder {shown} can't be read ({type(error).__name__})",
            remedy="It is missing or was cut short; fetch the model again.",
        ) from None
    if weights_sha256(weights) != card.weights_sha256:
        raise CheckpointInvalid(
            f"the weights in {shown} aren't the ones its card was written for",
            remedy="One of the two files was changed or replaced; fetch the model again.",
        )
    return weights
