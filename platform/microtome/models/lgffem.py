"""LGFFEM, the Local-Global Feature Fusion Embedding Model: backbone → neck → head → unit vector.

With `reference` the published architecture is built, faults and all, so that its checkpoints can
be used (`reference_weights`): the backbone's first four scales, which for networks of five
(RegNetY, CoAtNet) leave the last and strongest unused; `neck.PUBLISHED`; `heads.PublishedGeM`;
only sides that are multiples of the coarsest scale's step; vectors of any length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Self

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from microtome.config import check_fraction, check_positive, check_whole
from microtome.errors import ModelError, SettingError
from microtome.models.backbone import LAST_FOUR_SCALES, Backbone, TimmNetwork, WeightSource
from microtome.models.card import read_architecture
from microtome.models.heads import GeM, PublishedGeM, PyramidHead
from microtome.models.neck import GLOBAL_SQUEEZE, PUBLISHED, SCALES, SOUND, Neck

KIND = "lgffem"
FIRST_FOUR_SCALES = (0, 1, 2, 3)


@dataclass(frozen=True, slots=True)
class LgffemConfig:
    """Everything that shapes the module; a card's `architecture` holds exactly these fields.

    Attributes:
        backbone: timm's id.
        pad_type: see `TimmNetwork`.
        neck_channels: of every scale in the neck, a multiple of 8.
        neck_layers: exchanges between the scales.
        drop_path: chance that a gate is skipped in training.
        gem_p: first value of GeM's exponent.
        gem_eps: least value GeM raises to its power.
        dropout: in the head, in training.
        projection_dim: length that a last linear map brings the embedding to; None for no such map.
        matryoshka_dims: shorter prefixes of the embedding that training makes useful by themselves,
            ascending; see `prefixes`.
        output_dim: one of these prefixes, to give that alone; None for the whole embedding.
        reference: build the published architecture with its faults.
    """

    backbone: str
    pad_type: str = ""
    neck_channels: int = 512
    neck_layers: int = 3
    drop_path: float = 0.0
    gem_p: float = 4.6
    gem_eps: float = 1e-6
    dropout: float = 0.6
    projection_dim: int | None = None
    matryoshka_dims: tuple[int, ...] = ()
    output_dim: int | None = None
    reference: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.backbone, str) or not self.backbone:
            raise SettingError(f"backbone must name a timm network, not {self.backbone!r}")
        TimmNetwork(self.backbone, self.pad_type)
        check_whole("neck_channels", self.neck_channels, least=GLOBAL_SQUEEZE, most=4096)
        if self.neck_channels % GLOBAL_SQUEEZE:
            raise SettingError(
                f"neck_channels must be a multiple of {GLOBAL_SQUEEZE}, not {self.neck_channels}"
            )
        check_whole("neck_layers", self.neck_layers, least=1, most=32)
        check_fraction("drop_path", self.drop_path)
        check_fraction("dropout", self.dropout)
        check_positive("gem_eps", self.gem_eps, most=1.0)
        check_positive("gem_p", self.gem_p, most=100.0)
        if self.gem_p <= 1:
            raise SettingError(f"gem_p must be above 1, not {self.gem_p:g}")
        self._check_lengths()

    def _check_lengths(self) -> None:
        if self.projection_dim is not None:
            check_whole("projection_dim", self.projection_dim, least=2, most=self.head_dim)
        for dim in self.matryoshka_dims:
            check_whole("matryoshka_dims", dim, least=2, most=self.full_dim - 1)
        if list(self.matryoshka_dims) != sorted(set(self.matryoshka_dims)):
            raise SettingError(f"matryoshka_dims must ascend, not {self.matryoshka_dims}")
        if self.output_dim is not None and self.output_dim not in self.matryoshka_dims:
            raise SettingError(
                f"output_dim must be one of matryoshka_dims {self.matryoshka_dims}, "
                f"not {self.output_dim!r}"
            )
        if self.reference and (self.projection_dim or self.matryoshka_dims):
            raise SettingError("the reference has neither projection_dim nor matryoshka_dims")

    @property
    def head_dim(self) -> int:
        """Length of what the head gives."""
        return SCALES * self.neck_channels

    @property
    def full_dim(self) -> int:
        """Length of the whole embedding."""
        return self.projection_dim or self.head_dim

    @property
    def dim(self) -> int:
        """Length of the vectors that the model gives."""
        return self.output_dim or self.full_dim

    def to_architecture(self) -> dict[str, Any]:
        """The `architecture` of a model card."""
        return {"kind": KIND, **asdict(self), "matryoshka_dims": list(self.matryoshka_dims)}

    @classmethod
    def from_architecture(cls, architecture: Mapping[str, Any]) -> Self:
        """Read a card's `architecture`.

        Raises:
            CheckpointInvalid: another kind, an unknown or missing field, or a wrong value.
        """
        return read_architecture(KIND, architecture, cls)


class LGFFEM(nn.Module):
    """See the module's docstring; parts may be used alone.

    Args:
        config: the shape.
        weights: of the backbone; neck and head start untrained.
        frozen: keep the backbone as it is.

    Raises:
        SettingError: the backbone hasn't four scales, each coarser than the one before.
        ModelNotFound, SettingError: as `Backbone`.
    """

    def __init__(self, config: LgffemConfig, weights: WeightSource, *, frozen: bool = True) -> None:
        super().__init__()
        network = TimmNetwork(config.backbone, config.pad_type)
        self.config = config
        scales = FIRST_FOUR_SCALES if config.reference else LAST_FOUR_SCALES
        self.backbone = Backbone(network, weights, frozen=frozen, scales=scales)
        _check_pyramid(config.backbone, self.backbone.reductions)
        self.neck = Neck(
            self.backbone.channels,
            config.neck_channels,
            config.neck_layers,
            config.drop_path,
            PUBLISHED if config.reference else SOUND,
        )
        pool = PublishedGeM if config.reference else GeM
        pools = [pool(config.gem_p, config.gem_eps) for _ in range(SCALES)]
        self.head = PyramidHead(config.neck_channels, pools, config.dropout)
        self.projection = (
            nn.Linear(config.head_dim, config.projection_dim, bias=False)
            if config.projection_dim
            else None
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Map (N, 3, H, W) float, normalised, to (N, dim) float32 as `embed_features` says."""
        return self.embed_features(self.features(pixels))

    def features(self, pixels: Tensor) -> list[Tensor]:
        """What the backbone sees: four maps (N, Cᵢ, Hᵢ, Wᵢ), finest first.

        A frozen backbone always gives equal maps for equal pixels, so that they may be cached.
        """
        step_px = self.backbone.reductions[-1]
        if self.config.reference and any(side % step_px for side in pixels.shape[-2:]):
            raise ModelError(
                f"the reference architecture takes sides that are multiples of {step_px} px, "
                f"not {pixels.shape[-1]} × {pixels.shape[-2]}",
                remedy="Its own input is 224 × 224. Without reference, any size will do.",
            )
        maps: list[Tensor] = self.backbone(pixels)
        return maps

    def embed_features(self, features: Sequence[Tensor]) -> Tensor:
        """Map `features` to (N, dim) float32, of unit length but for the reference."""
        embedded: Tensor = self.head(self.neck(features))
        if self.config.reference:
            return embedded.float()
        if self.projection is not None:
            embedded = self.projection(embedded)
        return F.normalize(embedded[:, : self.config.dim].float(), dim=1)


def prefixes(vectors: Tensor, dims: Sequence[int]) -> list[Tensor]:
    """The first values of vectors (N, D), as vectors of unit length (N, d), for each d of `dims`.

    A loss summed over them makes each prefix an embedding by itself: Kusupati et al.,
    "Matryoshka Representation Learning" (arXiv 2205.13147), equation 1 with equal weights.
    """
    return [F.normalize(vectors[:, :dim], dim=1) for dim in dims]


def _check_pyramid(name: str, reductions: Sequence[int]) -> None:
    if any(coarse <= fine for fine, coarse in pairwise(reductions)):
        steps = ", ".join(str(step) for step in reductions)
        raise SettingError(
            f"{name} has no four scales, each coarser than the one before: its maps have one pixel "
            f"for {steps} px",
            remedy="Take a hierarchical network, e.g. a ConvNeXt, ResNet, RegNet or Swin.",
        )
