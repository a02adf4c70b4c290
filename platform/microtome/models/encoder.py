"""Tiles in, unit vectors out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from microtome.config import Precision, check_choice
from microtome.errors import SettingError
from microtome.models.card import ModelCard


class Encoder(Protocol):
    """Anything that embeds tiles; tests use one whose vector is the mean colour."""

    @property
    def card(self) -> ModelCard:
        """What it is."""
        ...

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed tiles.

        Args:
            pixels: (N, H, W, 3) uint8 RGB.

        Returns:
            (N, card.dim) float32, each row of unit length.
        """
        ...


@dataclass(frozen=True, slots=True)
class EncoderOptions:
    """How a model is run; none of it is part of the model's id.

    Attributes:
        device: `auto` (a GPU where there is one), or torch's name, e.g. `cpu`, `cuda:1`.
        precision: of the network's arithmetic; `auto` is bf16 on GPUs that have it, fp16 on older
            ones, fp32 on CPUs. Vectors are set to unit length in fp32 in any case.
        allow_licences: licences that aren't permissive and are accepted all the same, by name.
    """

    device: str = "auto"
    precision: Precision = "auto"
    allow_licences: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.device, str) or not self.device:
            raise SettingError(f"device must be auto or a torch device, not {self.device!r}")
        check_choice("precision", self.precision, get_args(Precision))
        if isinstance(self.allow_licences, str):
            raise SettingError(
                f"allow_licences must be a list of names, not the text {self.allow_licences!r}"
            )


DEFAULT_OPTIONS = EncoderOptions()
