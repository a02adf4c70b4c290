"""Run a torch module as an `Encoder`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from microtome.config import Precision
from microtome.errors import ModelError, SettingError
from microtome.models.card import ModelCard
from microtome.models.encoder import DEFAULT_OPTIONS, EncoderOptions

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchEncoder:
    """A module with its card, on one device.

    Args:
        module: maps (N, 3, input_px, input_px) float, normalised as the card says, to (N, dim).
        card: see `ModelCard`.
        options: device and precision.

    Raises:
        SettingError: the device isn't there, or can't compute in that precision.
    """

    def __init__(
        self, module: nn.Module, card: ModelCard, options: EncoderOptions = DEFAULT_OPTIONS
    ) -> None:
        self.device = _device(options.device)
        self.dtype = _dtype(options.precision, self.device)
        self._card = card
        self._module = _channels_last(module.eval().to(self.device))
        preparation = card.preprocessing
        # (pixels / 255 - mean) / std as one multiplication and one addition, both in place.
        mean, std = (
            torch.tensor(v, device=self.device) for v in (preparation.mean, preparation.std)
        )
        self._scale = (1 / (255 * std)).view(3, 1, 1)
        self._shift = (-mean / std).view(3, 1, 1)

    @property
    def card(self) -> ModelCard:
        """What it is."""
        return self._card

    @property
    def module(self) -> nn.Module:
        """The network, on its device."""
        return self._module

    @torch.inference_mode()
    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed square tiles.

        Args:
            pixels: (N, S, S, 3) uint8 RGB, S any size; one batch, so N is bounded by memory.

        Returns:
            (N, dim) float32, each row of unit length.

        Raises:
            ModelError: the model gives something that has no direction or isn't finite.
            ValueError: the array isn't such a batch.
        """
        if pixels.ndim != 4 or pixels.shape[1] != pixels.shape[2] or pixels.shape[3] != 3:
            raise ValueError(f"tiles must be (N, S, S, 3), not {pixels.shape}")
        if pixels.dtype != np.uint8:
            raise ValueError(f"tiles must be uint8, not {pixels.dtype}")
        if len(pixels) == 0:
            return np.empty((0, self._card.dim), np.float32)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            vectors = self._module(self._prepare(pixels))
        return self._checked(vectors.float())

    def _prepare(self, pixels: NDArray[np.uint8]) -> Tensor:
        """To (N, 3, input_px, input_px) float32 in channels-last order, normalised."""
        own = np.require(pixels, requirements=["C", "W"])  # Arrow's buffers are read-only
        images = torch.from_numpy(own).to(self.device).permute(0, 3, 1, 2).float()
        side = self._card.preprocessing.input_px
        if images.shape[-1] != side:
            images = F.interpolate(images, size=(side, side), mode="bilinear", antialias=True)
        return images.mul_(self._scale).add_(self._shift)

    def _checked(self, vectors: Tensor) -> NDArray[np.float32]:
        name, dim = self._card.name, self._card.dim
        if vectors.ndim != 2 or vectors.shape[1] != dim:
            raise ModelError(
                f"the model {name} gives {tuple(vectors.shape)}, its card says vectors of {dim}"
            )
        lengths = vectors.norm(dim=1, keepdim=True)
        bad = int((~(torch.isfinite(lengths) & (lengths > 0))).sum())
        if bad:
            raise ModelError(
                f"the model {name} gives no finite direction for {bad} of {len(vectors)} tiles",
                remedy="Try precision fp32; if that doesn't help, its weights are broken.",
            )
        unit: NDArray[np.float32] = (vectors / lengths).cpu().numpy()
        return unit


def _channels_last(module: Any) -> nn.Module:
    """Lay weights out as the pixels come; torch's annotations don't know the argument."""
    moved: nn.Module = module.to(memory_format=torch.channels_last)
    return moved


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SettingError(f"device {name} can't be used here: {reason}") from None
    return device


def _dtype(precision: Precision, device: torch.device) -> torch.dtype:
    if precision != "auto":
        if precision == "bf16" and device.type == "cuda" and not _has_bf16():
            raise SettingError("this GPU has no bf16", remedy="Take precision fp16 or fp32.")
        return DTYPES[precision]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if _has_bf16() else torch.float16


def _has_bf16() -> bool:
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))
