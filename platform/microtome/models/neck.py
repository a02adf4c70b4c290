"""The Local-Global Feature Fusion Neck: four scales exchange what they see, several times over.

One layer (`FusionLayer`) is a bidirectional pyramid over the maps p1 (finest) … p4 (coarsest):

    p4 ───────────────┬──────────────► p4'       inner nodes, coarse to fine
                      ▼           ▲                  p3~ = G(p3) ⊕ L(p4 ↑)
    p3 ────────────► p3~ ───────► p3'                p2~ = G(p2) ⊕ L(p3~ ↑)
                      ▼           ▲              outer nodes, fine to coarse
    p2 ────────────► p2~ ───────► p2'                p1' = G(p1) ⊕ L(p2~ ↑)
                      ▼           ▲                  p2' = L(p2) ⊕ L(p2~) ⊕ G(p1' ↓)
    p1 ─────────────────────────► p1'                p3' = L(p3) ⊕ L(p3~) ⊕ G(p2' ↓)
                                                     p4' = L(p4) ⊕ G(p3' ↓)

L and G are gates: L looks at one position, G at its neighbourhood and, through global response
normalisation, at the whole map. ⊕ is EfficientDet's fast normalised fusion.

Sources: Nuñez et al., "Feature-Fusion Neck Model for Content-Based Histopathological Image
Retrieval"; Tan et al., EfficientDet (arXiv 1911.09070, section 3.3) for the fusion; Woo et al.,
ConvNeXt V2 (arXiv 2301.00808, section 3) for the normalisation. Where the published code differs
from its sources this module follows the sources, see `Rules`, and takes maps of any size. The
gates' squeeze and biases are chosen so that the published number of parameters comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from microtome.models.backbone import DropPath

SCALES = 4
NORM_EPS = 1e-6
FUSION_EPS = 1e-4
PROJECTION_EXPANSION = 2
LOCAL_SQUEEZE = 2
GLOBAL_SQUEEZE = 8


@dataclass(frozen=True, slots=True)
class Rules:
    """The details in which the published code and its sources differ.

    Attributes:
        mixing: from a gate's α to its mixing a.
        weighting: from a fusion's parameters to its weights.
        response_dim: of the (N, C, 1, 1) energies, that a response is relative to the mean over.
    """

    mixing: Callable[[Tensor], Tensor]
    weighting: Callable[[Tensor], Tensor]
    response_dim: int


def _as_it_is(x: Tensor) -> Tensor:
    return x


SOUND = Rules(mixing=torch.sigmoid, weighting=F.relu, response_dim=1)
"""Gates never amplify, fusions never divide by 0, channels compete."""

PUBLISHED = Rules(mixing=_as_it_is, weighting=_as_it_is, response_dim=-1)
"""As the published code computes: nothing is bounded, and over a dimension of 1 the response is
each channel's own energy divided by itself, which leaves a scale and a shift for each channel."""


class LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of an (N, C, H, W) map, at each position."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise; the channels-last view costs no copy on channels-last maps."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class GlobalResponseNorm(nn.Module):
    """Let channels compete by their energy over the whole map (ConvNeXt V2, equations 1 to 3).

    G(x)_c = ‖x_c‖₂ over positions; N_c = G_c / mean over channels of G; y = γ·(x·N) + β + x.
    """

    def __init__(self, channels: int, rules: Rules = SOUND) -> None:
        super().__init__()
        self.rules = rules
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        energy: Tensor = torch.linalg.vector_norm(x.float(), dim=(2, 3), keepdim=True)
        relative = energy / (energy.mean(dim=self.rules.response_dim, keepdim=True) + NORM_EPS)
        return self.gamma * (x * relative.to(x.dtype)) + self.beta + x


class Projection(nn.Module):
    """Bring one scale of the backbone to the neck's channels, position by position."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        inner = in_channels * PROJECTION_EXPANSION
        self.expand = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.norm = LayerNorm2d(inner)
        self.reduce = nn.Conv2d(inner, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H, W)."""
        projected: Tensor = self.reduce(F.gelu(self.norm(self.expand(x))))
        return projected


class Gate(nn.Module):
    """y = (1 - a)·x·σ(g(x)) + a·x, with the mixing a learnt and, as σ(α), kept in (0, 1)."""

    def __init__(self, drop_path: float, rules: Rules = SOUND) -> None:
        super().__init__()
        self.rules = rules
        self.alpha = nn.Parameter(torch.zeros(1))
        self.drop_path = DropPath(drop_path)

    def mix(self, x: Tensor, logits: Tensor) -> Tensor:
        """Gate `x` by `logits` of its own shape."""
        gated: Tensor = self.drop_path(x * torch.sigmoid(logits))
        return torch.lerp(gated, x, self.rules.mixing(self.alpha).to(x.dtype))


class LocalGate(Gate):
    """L: gate each position by itself; with `upsample`, after doubling the map."""

    def __init__(
        self, channels: int, drop_path: float, rules: Rules, *, upsample: bool = False
    ) -> None:
        super().__init__(drop_path, rules)
        self.upsample = Upsample(channels) if upsample else None
        self.norm = LayerNorm2d(channels)
        self.squeeze = nn.Conv2d(channels, channels // LOCAL_SQUEEZE, 1, bias=False)
        self.excite = nn.Conv2d(channels // LOCAL_SQUEEZE, channels, 1)

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        """Map (N, C, h, w) to (N, C, H, W), the size of `like`."""
        if self.upsample is not None:
            x = _fit(self.upsample(x), like)
        return self.mix(x, self.excite(F.gelu(self.squeeze(self.norm(x)))))


class GlobalGate(Gate):
    """G: gate by neighbourhood and whole map; with `downsample`, after halving the map."""

    def __init__(
        self, channels: int, drop_path: float, rules: Rules, *, downsample: bool = False
    ) -> None:
        super().__init__(drop_path, rules)
        inner = channels // GLOBAL_SQUEEZE
        self.downsample = _depthwise(channels, stride=2) if downsample else None
        self.context = _depthwise(channels)
        self.norm = LayerNorm2d(channels)
        self.squeeze = nn.Conv2d(channels, inner, 1)
        self.response = GlobalResponseNorm(inner, rules)
        self.excite = nn.Conv2d(inner, channels, 1)

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        """Map (N, C, h, w) to (N, C, H, W), the size of `like`."""
        if self.downsample is not None:
            x = _fit(self.downsample(x), like)
        squeezed = F.gelu(self.squeeze(self.norm(self.context(x))))
        return self.mix(x, self.excite(self.response(squeezed)))


class Upsample(nn.Module):
    """Double a map: each channel by its own learnt 2 × 2 kernel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = LayerNorm2d(channels)
        self.widen = nn.ConvTranspose2d(channels, channels, 2, 2, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, 2H, 2W)."""
        doubled: Tensor = self.widen(self.norm(x))
        return doubled


class Fusion(nn.Module):
    """⊕: Σ wᵢ·xᵢ / (Σ wᵢ + ε), where ReLU keeps every w at 0 or above, so the sum can't vanish."""

    def __init__(self, inputs: int, rules: Rules = SOUND) -> None:
        super().__init__()
        self.rules = rules
        self.weights = nn.Parameter(torch.ones(inputs))

    def forward(self, *maps: Tensor) -> Tensor:
        """Fuse maps of one shape."""
        weights = self.rules.weighting(self.weights)
        weights = (weights / (weights.sum() + FUSION_EPS)).to(maps[0].dtype)
        fused = weights[0] * maps[0]
        for weight, x in zip(weights[1:], maps[1:], strict=True):
            fused = fused + weight * x
        return fused


class FusionLayer(nn.Module):
    """One exchange between the four scales, as drawn above."""

    def __init__(self, channels: int, drop_path: float = 0.0, rules: Rules = SOUND) -> None:
        super().__init__()

        def local_gate(**resample: bool) -> LocalGate:
            return LocalGate(channels, drop_path, rules, **resample)

        def global_gate(**resample: bool) -> GlobalGate:
            return GlobalGate(channels, drop_path, rules, **resample)

        def node(*gates: Gate) -> nn.ModuleList:
            return nn.ModuleList([*gates, Fusion(len(gates), rules)])

        self.inner3 = node(global_gate(), local_gate(upsample=True))
        self.inner2 = node(global_gate(), local_gate(upsample=True))
        self.outer1 = node(global_gate(), local_gate(upsample=True))
        self.outer2 = node(local_gate(), local_gate(), global_gate(downsample=True))
        self.outer3 = node(local_gate(), local_gate(), global_gate(downsample=True))
        self.outer4 = node(local_gate(), global_gate(downsample=True))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Map four (N, C, Hᵢ, Wᵢ), finest first, to four of the same shapes."""
        p1, p2, p3, p4 = maps
        inner3 = _node(self.inner3, p3, p4)
        inner2 = _node(self.inner2, p2, inner3)
        outer1 = _node(self.outer1, p1, inner2)
        outer2 = _node(self.outer2, p2, inner2, outer1)
        outer3 = _node(self.outer3, p3, inner3, outer2)
        outer4 = _node(self.outer4, p4, outer3)
        return [outer1, outer2, outer3, outer4]


class Neck(nn.Module):
    """Project four scales to one number of channels, then fuse them layer by layer.

    Args:
        in_channels: of the four scales, finest first.
        channels: of the result, a multiple of 8.
        layers: how many times the scales exchange what they see.
        drop_path: chance that a gate is skipped in training, per sample.
        rules: with `PUBLISHED`, each map must be exactly twice the next one's size.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        layers: int,
        drop_path: float = 0.0,
        rules: Rules = SOUND,
    ) -> None:
        super().__init__()
        self.projections = nn.ModuleList(Projection(count, channels) for count in in_channels)
        self.layers = nn.ModuleList(FusionLayer(channels, drop_path, rules) for _ in range(layers))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Map four (N, in_channels[i], Hᵢ, Wᵢ) to four (N, channels, Hᵢ, Wᵢ)."""
        fused = [project(x) for project, x in zip(self.projections, maps, strict=True)]
        for layer in self.layers:
            fused = layer(fused)
        return fused


def _node(parts: nn.ModuleList, *inputs: Tensor) -> Tensor:
    """Fuse the inputs, each through its own gate, at the size of the first."""
    *gates, fusion = parts
    fused: Tensor = fusion(*(gate(x, inputs[0]) for gate, x in zip(gates, inputs, strict=True)))
    return fused


def _depthwise(channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False)


def _fit(x: Tensor, like: Tensor) -> Tensor:
    """Resize to the other map's size; odd sizes don't halve and double back to themselves."""
    if x.shape[-2:] == like.shape[-2:]:
        return x
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)
