"""Colour and texture statistics of stained tissue, without weights: what a tile's pixels say.

Everything here is a histogram, so two tiles compare by the Bhattacharyya coefficient: with each
histogram h scaled to sum 1, √h has unit length, and the dot product of two such roots is
Σ √(aᵢ·bᵢ), 1 for equal and 0 for disjoint distributions. `TissueStatistics` concatenates these
roots of its six families with equal shares, so the cosine of two tiles is the mean coefficient.

1. Optical density, od = -log₁₀((255·rgb + 1) / 256), unmixed into haematoxylin h and eosin e
   by the stain vectors of Ruifrok & Johnston (Anal Quant Cytol Histol 23:291, 2001).
2. Stain: histograms of log h and log e, which a slide stained a little stronger moves by a part of
   a bin, and one of the two together at half resolution: what stain lies with what.
3. Nuclei: h is divided by its mean over the tile (stronger stain, same picture), then taken down
   an octave pyramid of 2 × 2 means. At each level: the band, level minus next level, whose spread
   peaks where structures are as large as the level's pixels (nuclear size); the gradient
   magnitude (edges: nuclear number); the local mean (how unevenly nuclei lie).
4. Arrangement: rotation-invariant uniform local binary patterns of the mean density at each
   coarser level (Ojala, Pietikäinen & Mäenpää, IEEE PAMI 24:971, 2002, equation 9): which spots,
   edges and corners there are, nearly whatever the stain's strength.

Quarter turns and mirror images of a tile leave everything unchanged but for rounding. Values are
shared between the two nearest bins, so a histogram moves smoothly with its values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

HAEMATOXYLIN = (0.65, 0.70, 0.29)
EOSIN = (0.07, 0.99, 0.11)
LEVELS = 4
FLOOR = 0.01  # added before a logarithm: values below it are noise of the scanner and the codec
GLASS_OD = 0.02  # added to the mean of h, so that empty glass isn't blown up to full contrast
PATTERNS = 10
PATTERN_STEP_OD = 0.01  # less than this is no edge: about three grey levels in stained tissue


@dataclass(frozen=True, slots=True)
class Bins:
    """Evenly spaced bin centres from `low` to `high`; values beyond count to the end bins."""

    low: float
    high: float
    count: int

    def place(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Index of the bin below each value, and the value's share in [0, 1] of the bin above."""
        scaled = (values - self.low) * ((self.count - 1) / (self.high - self.low))
        scaled = scaled.clamp(0, self.count - 1)
        lower = scaled.floor().clamp(max=self.count - 2)
        return lower.long(), scaled - lower


STAIN_BINS = Bins(-2.0, 0.5, 16)  # log₁₀ of optical density
JOINT_BINS = Bins(-1.5, 0.5, 6)  # the same, twice
CONTRAST_BINS = Bins(-2.0, 1.0, 12)  # log₁₀ of h relative to its mean
MEAN_BINS = Bins(0.0, 3.0, 16)  # h relative to its mean

DIM = (
    2 * STAIN_BINS.count
    + JOINT_BINS.count**2
    + LEVELS * (2 * CONTRAST_BINS.count + MEAN_BINS.count + PATTERNS)
)


class TissueStatistics(nn.Module):
    """See the module's docstring; the six families of histograms have equal shares."""

    unmixing: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("unmixing", _unmixing(), persistent=False)

    def forward(self, rgb: Tensor) -> Tensor:
        """Map (N, 3, H, W) RGB in [0, 1], H and W multiples of 16, to (N, DIM) of unit length."""
        with torch.autocast(rgb.device.type, enabled=False):
            density = -torch.log10((255 * rgb.float() + 1) / 256)
            stains = F.conv2d(density, self.unmixing).clamp(min=0)
            families = [*_stain_families(stains), *_texture_families(stains[:, :1], density)]
            return _unit([_unit(family) for family in families])


def _unmixing() -> Tensor:
    """(2, 3, 1, 1): optical density to haematoxylin and eosin; what neither explains is left."""
    stains = F.normalize(torch.tensor([HAEMATOXYLIN, EOSIN], dtype=torch.float64), dim=1)
    rest = F.normalize(torch.linalg.cross(stains[0], stains[1]), dim=0)
    mixing = torch.stack([*stains, rest])
    unmixing: Tensor = torch.linalg.inv(mixing).T[:2, :, None, None]
    return unmixing.float().contiguous()


def _stain_families(stains: Tensor) -> list[list[Tensor]]:
    h, e = _log(stains[:, 0]), _log(stains[:, 1])
    near_h, near_e = _log(F.avg_pool2d(stains, 2)).chunk(2, dim=1)
    return [
        [_histogram(h, STAIN_BINS), _histogram(e, STAIN_BINS)],
        [_joint(near_h, near_e, JOINT_BINS)],
    ]


def _texture_families(h: Tensor, density: Tensor) -> list[list[Tensor]]:
    """Bands, edges, means and patterns, each at every level."""
    h = h / (h.mean(dim=(2, 3), keepdim=True) + GLASS_OD)
    density = density.mean(dim=1, keepdim=True)
    bands, edges, means, patterns = [], [], [], []
    for _ in range(LEVELS):
        coarser = F.avg_pool2d(h, 2)
        band = h - F.interpolate(coarser, scale_factor=2.0, mode="nearest")
        bands.append(_histogram(_log(band.abs()), CONTRAST_BINS))
        edges.append(_histogram(_log(_gradient(h)), CONTRAST_BINS))
        h, density = coarser, F.avg_pool2d(density, 2)
        means.append(_histogram(h.flatten(1), MEAN_BINS))
        patterns.append(_patterns(density))
    return [bands, edges, means, patterns]


def _gradient(x: Tensor) -> Tensor:
    """Magnitude of central differences, inner positions only."""
    across = x[..., 1:-1, 2:] - x[..., 1:-1, :-2]
    down = x[..., 2:, 1:-1] - x[..., :-2, 1:-1]
    return torch.hypot(across, down)


def _patterns(x: Tensor) -> Tensor:
    """Local binary patterns: (N, 1, H, W) to roots of shares, (N, 10).

    Pattern i < 9 has i of the eight neighbours above the centre, all in one arc; 9 is the rest.
    """
    height, width = x.shape[-2] - 2, x.shape[-1] - 2
    ring = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))
    threshold = x[..., 1:-1, 1:-1] + PATTERN_STEP_OD
    above = torch.stack([x[..., i : i + height, j : j + width] > threshold for i, j in ring])
    changes = (above ^ above.roll(1, dims=0)).sum(dim=0)
    pattern = torch.where(changes <= 2, above.sum(dim=0), PATTERNS - 1).flatten(1)
    total = x.new_zeros(len(x), PATTERNS)
    return _roots(total.scatter_add_(1, pattern, torch.ones_like(pattern, dtype=x.dtype)))


def _histogram(values: Tensor, bins: Bins) -> Tensor:
    """Roots of shares, (N, count), of values (N, M)."""
    lower, above = bins.place(values)
    total = values.new_zeros(len(values), bins.count)
    total.scatter_add_(1, lower, 1 - above)
    total[:, 1:].scatter_add_(1, lower, above)
    return _roots(total)


def _joint(first: Tensor, second: Tensor, bins: Bins) -> Tensor:
    """Roots of shares, (N, count²), of pairs of values, each (N, M)."""
    row, row_above = bins.place(first)
    column, column_above = bins.place(second)
    corner = row * bins.count + column
    total = first.new_zeros(len(first), bins.count**2)
    for down, rows in enumerate((1 - row_above, row_above)):
        for right, columns in enumerate((1 - column_above, column_above)):
            total[:, down * bins.count + right :].scatter_add_(1, corner, rows * columns)
    return _roots(total)


def _roots(total: Tensor) -> Tensor:
    """Scale counts to shares and take roots, so that each row has unit length."""
    return torch.sqrt(total / total.sum(dim=1, keepdim=True))


def _log(values: Tensor) -> Tensor:
    return torch.log10(values + FLOOR).flatten(1)


def _unit(parts: list[Tensor]) -> Tensor:
    """Concatenate vectors of unit length to one of unit length."""
    return torch.cat(parts, dim=1) * (1 / math.sqrt(len(parts)))
