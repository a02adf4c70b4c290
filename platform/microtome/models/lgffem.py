"""LGFFEM, the Local-Global Feature Fusion Embedding Model: backbone → neck → head → unit vector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from microtome.config import check_fraction, check_positive, check_whole
from microtome.errors import CheckpointInvalid, SettingError
from microtome.models.backbone import Backbone, TimmNetwork, WeightSource
from microtome.models.heads import PyramidHead
from microtome.models.neck import GLOBAL_SQUEEZE, SCALES, Neck

KIND = "lgffem"


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
    """

    backbone: str
    pad_type: str = ""
    neck_channels: int = 512
    neck_layers: int = 3
    drop_path: float = 0.0
    gem_p: float = 4.6
    gem_eps: float = 1e-6
    dropout: float = 0.6

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

    @property
    def dim(self) -> int:
        """Length of the embedding."""
        return SCALES * self.neck_channels

    def to_architecture(self) -> dict[str, Any]:
        """The `architecture` of a model card."""
        return {"kind": KIND, **asdict(self)}

    @classmethod
    def from_architecture(cls, architecture: Mapping[str, Any]) -> Self:
        """Read a card's `architecture`.

        Raises:
            CheckpointInvalid: another kind, an unknown or missing field, or a wrong value.
        """
        fields = dict(architecture)
        kind = fields.pop("kind", None)
        if kind != KIND:
            raise CheckpointInvalid(f"the card describes a model of kind {kind!r}, not {KIND!r}")
        try:
            return cls(**fields)
        except (TypeError, SettingError) as error:
            raise CheckpointInvalid(f"the card's architecture is wrong: {error}") from None


class LGFFEM(nn.Module):
    """See the module's docstring; parts may be used alone.

    Args:
        config: the shape.
        weights: of the backbone; neck and head start untrained.
        frozen: keep the backbone as it is.
    """

    def __init__(self, config: LgffemConfig, weights: WeightSource, *, frozen: bool = True) -> None:
        super().__init__()
        network = TimmNetwork(config.backbone, config.pad_type)
        self.config = config
        self.backbone = Backbone(network, weights, frozen=frozen)
        self.neck = Neck(
            self.backbone.channels, config.neck_channels, config.neck_layers, config.drop_path
        )
        self.head = PyramidHead(
            config.neck_channels, SCALES, config.gem_p, config.gem_eps, config.dropout
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Map (N, 3, H, W) float, normalised, to (N, dim) float32 of unit length."""
        embedded = self.head(self.neck(self.backbone(pixels)))
        return F.normalize(embedded.float(), dim=1)
