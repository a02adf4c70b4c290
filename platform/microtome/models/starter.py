"""`starter`: the model for a first try, offline and untrained, and honest about it in its card.

    vector = [√0.95 · statistics, √0.05 · (LGFFEM(tile) - LGFFEM(grey), at unit length)]

so that the cosine of two tiles is 0.95 of the statistics' agreement plus 0.05 of the network's.
An untrained network sends every tile near one common direction, the answer to a plain grey tile;
without that answer subtracted its cosines would all be 0.99. What is left varies about four times
as widely as the statistics' cosines, hence the small share.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from microtome.models.backbone import WeightSource
from microtome.models.lgffem import LGFFEM, LgffemConfig
from microtome.models.statistics import TissueStatistics

NETWORK = LgffemConfig("mobilenetv3_small_050", neck_channels=32, neck_layers=1)
NETWORK_SHARE = 0.05
SEED = 1895
SHRINK = 2  # the network sees half the resolution: a quarter of the work, nothing lost in trials
GREY_PX = 64


class Starter(nn.Module):
    """See the module's docstring; every instance holds the same weights, on any machine."""

    def __init__(self) -> None:
        super().__init__()
        self.statistics = TissueStatistics()
        self.network = LGFFEM(NETWORK, WeightSource("random"))
        draw_weights(self.network, SEED)

    def forward(self, rgb: Tensor) -> Tensor:
        """Map (N, 3, H, W) RGB in [0, 1], H and W multiples of 16, to (N, 396)."""
        seen = F.normalize(self._answer(rgb) - self._answer(_grey_like(rgb)), dim=1)
        share = NETWORK_SHARE
        return torch.cat([(1 - share) ** 0.5 * self.statistics(rgb), share**0.5 * seen], dim=1)

    def _answer(self, rgb: Tensor) -> Tensor:
        vectors: Tensor = self.network((F.avg_pool2d(rgb, SHRINK) - 0.5) / 0.25)
        return vectors


def draw_weights(module: nn.Module, seed: int) -> None:
    """Fill convolutions and linear maps with He-scaled uniform numbers, biases with zeros.

    Drawn from NumPy's PCG64, whose uniform numbers are made by integer arithmetic and so are the
    same on every machine; torch's normal numbers differ in the last bit between processors.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    for _, part in sorted(module.named_modules()):
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            shape = tuple(part.weight.shape)
            bound = np.float32((6 / part.weight[0].numel()) ** 0.5)
            numbers = (2 * generator.random(shape, dtype=np.float32) - 1) * bound
            part.weight.data.copy_(torch.from_numpy(numbers))
            if part.bias is not None:
                part.bias.data.zero_()


def _grey_like(rgb: Tensor) -> Tensor:
    return rgb.new_full((1, 3, GREY_PX, GREY_PX), 0.5)
