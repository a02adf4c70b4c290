"""From a feature map to a vector: generalised-mean (GeM) pooling and the head over four scales.

Source: Radenović et al., "Fine-tuning CNN image retrieval with no human annotation"
(arXiv 1711.02512), equation 3: f = (mean over positions of xᵖ)^(1/p); p = 1 is the mean, p → ∞
the maximum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


class GeM(nn.Module):
    """Generalised-mean pooling with a learnt p that can't fall below 1.

    Maps may be negative; softplus makes them positive and lets every position have a gradient,
    where clamping would silence half of a zero-centred map. Powers are taken in float32, which
    autocast leaves as it is, after division by each channel's maximum (which cancels), so nothing
    overflows.

    Args:
        p: the first value of the exponent, above 1.
        eps: the least value raised to the power.
    """

    def __init__(self, p: float = 4.6, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.excess = nn.Parameter(torch.full((1,), math.log(math.expm1(p - 1))))

    @property
    def p(self) -> Tensor:
        """The exponent, 1 + softplus(excess), shape (1,)."""
        return 1 + F.softplus(self.excess.float())

    def forward(self, x: Tensor) -> Tensor:
        """Pool (N, C, H, W) to (N, C) float32."""
        positive = F.softplus(x.float()).clamp(min=self.eps)
        largest = positive.amax(dim=(2, 3), keepdim=True).detach()
        mean: Tensor = (positive / largest).pow(self.p).mean(dim=(2, 3)).pow(1 / self.p)
        return mean * largest[:, :, 0, 0]


class PublishedGeM(nn.Module):
    """Generalised-mean pooling as published: what is below `eps` is `eps`, and p is free.

    Args:
        p: the first value of the exponent.
        eps: the least value raised to the power.
    """

    def __init__(self, p: float = 4.6, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.p = nn.Parameter(torch.full((1,), p))

    def forward(self, x: Tensor) -> Tensor:
        """Pool (N, C, H, W) to (N, C)."""
        pooled: Tensor = x.clamp(min=self.eps).pow(self.p).mean(dim=(2, 3)).pow(1 / self.p)
        return pooled


class ScaleHead(nn.Module):
    """One scale: GeM, batch norm, dropout, and two linear maps around a unit sphere."""

    def __init__(self, channels: int, gem: nn.Module, dropout: float) -> None:
        super().__init__()
        self.gem = gem
        self.norm = nn.BatchNorm1d(channels)
        self.dropout = nn.Dropout(dropout)
        self.inner = nn.Linear(channels, channels)
        self.outer = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C)."""
        hidden = self.inner(self.dropout(self.norm(self.gem(x))))
        embedded: Tensor = self.outer(F.normalize(hidden, dim=1))
        return embedded


class PyramidHead(nn.Module):
    """A `ScaleHead` for each scale, concatenated.

    The unit length that retrieval relies on is set last, by the model, in float32.

    Args:
        channels: of every scale.
        pools: one for each scale.
        dropout: share of pooled channels dropped in training.
    """

    def __init__(self, channels: int, pools: Sequence[nn.Module], dropout: float = 0.6) -> None:
        super().__init__()
        self.heads = nn.ModuleList(ScaleHead(channels, pool, dropout) for pool in pools)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Map the scales, each (N, C, Hᵢ, Wᵢ), to (N, scales · C)."""
        return torch.cat([head(x) for head, x in zip(self.heads, maps, strict=True)], dim=1)
