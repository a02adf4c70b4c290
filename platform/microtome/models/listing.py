"""What models there are: those that ship, the names others go by, and checkpoints in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from microtome.errors import CheckpointInvalid, ModelNotFound
from microtome.models.card import ModelCard
from microtome.models.checkpoint import CARD_FILE, read_card
from microtome.models.registry import shipped_cards

PATTERNS = {
    "timm:NAME": "any timm network, pretrained weights from the hub",
    "timm:hf-hub:OWNER/MODEL": "a timm network from anyone's hub repository",
    "timm:NAME@file:PATH.safetensors": "weights from a file",
    "timm:NAME@random:SEED": "untrained",
}


def list_models(folder: str | None = None) -> list[dict[str, Any]]:
    """One row a model: name, kind, dim, mpp, licence, model_id, about.

    Args:
        folder: looked through, at any depth, for checkpoints; a broken one is a row that says so.

    Raises:
        ModelNotFound: there is no such folder.
    """
    if folder is not None and not Path(folder).is_dir():
        raise ModelNotFound(f"there is no folder {folder} to look for models in")
    rows = [card_row(name, card) for name, card in shipped_cards().items()]
    rows += [_row(name, kind="name", about=about) for name, about in PATTERNS.items()]
    return rows + (list(_checkpoints(Path(folder))) if folder is not None else [])


def card_row(name: str, card: ModelCard) -> dict[str, Any]:
    """A card as a row."""
    return _row(
        name,
        kind=card.architecture["kind"],
        dim=card.dim,
        mpp=card.mpp,
        licence=card.licence,
        model_id=card.model_id,
        about=card.notes or f"trained on: {card.training_data}",
    )


def _checkpoints(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.rglob(CARD_FILE)):
        try:
            yield card_row(str(path.parent), read_card(path.parent))
        except CheckpointInvalid as error:
            yield _row(str(path.parent), kind="broken", about=error.message)


def _row(name: str, **facts: Any) -> dict[str, Any]:
    empty = dict.fromkeys(("kind", "dim", "mpp", "licence", "model_id", "about"))
    return {"name": name} | empty | facts
