"""What a model must beat: chance, and colour alone.

They run under the same protocols, on the same images shown the same way, and stand in the same
table. Two further peers are the user's to bring by `--model`, since their weights are: an ImageNet
backbone without further training, and fitted checkpoints of LGFFEM and CGD. Untrained ones are no
peers: a network with random weights would only look like a result of its architecture.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from microtome.models.card import ModelCard, Preprocessing

BINS: Final = 8
RANDOM_DIM: Final = 128
_VALUES: Final = 256


@dataclass(frozen=True, slots=True)
class ColourHistogram:
    """An encoder without weights: how often each of 8 × 8 × 8 colours occurs.

    The square root of a tile's histogram has unit length once its sum is 1, and the dot product of
    two roots is their Bhattacharyya coefficient Σ √(aᵢ·bᵢ): 1 for equal colours, 0 for disjoint.
    """

    card: ModelCard = field(
        default=ModelCard(
            name="colour histogram",
            architecture={"kind": "colour-histogram", "bins": BINS},
            preprocessing=Preprocessing(input_px=256),
            dim=BINS**3,
            weights_sha256="none",
            licence="Apache-2.0",
            training_data="none",
            notes="Colour alone: what any model must beat.",
        )
    )

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, H, W, 3) uint8 RGB to (N, 512) float32 of unit length."""
        codes = (pixels // (_VALUES // BINS)).astype(np.int64) @ np.array([BINS * BINS, BINS, 1])
        roots = np.sqrt([np.bincount(code.ravel(), minlength=BINS**3) for code in codes])
        return np.asarray(roots / np.linalg.norm(roots, axis=1, keepdims=True), np.float32)


def random_vectors(count: int, seed: int) -> NDArray[np.float32]:
    """(count, 128) float32, directions drawn evenly from the sphere: what chance scores."""
    drawn = np.random.default_rng(seed).normal(size=(count, RANDOM_DIM))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float32)


def missing_peers(cards: Iterable[ModelCard]) -> tuple[str, ...]:
    """A sentence for each peer that only its user can bring, and didn't."""
    kinds = {_kind(card) for card in cards}
    notes = []
    if "timm" not in kinds:
        notes.append(
            "no ImageNet backbone among the peers: no weights were named; add --model "
            "timm:NAME@file:PATH, or timm:NAME to fetch them"
        )
    notes += [
        f"no {name} among the peers: name a fitted checkpoint's folder with --model; untrained "
        "it would show nothing"
        for kind, name in (("lgffem", "LGFFEM"), ("cgd", "CGD"))
        if kind not in kinds
    ]
    return tuple(notes)


def _kind(card: ModelCard) -> str:
    trained = card.training_data != "none"
    return str(card.architecture.get("kind")) if trained else ""
