"""CGD, the Combination of Multiple Global Descriptors: backbone → descriptors → unit vector.

    last map (C, H, W) ─┬─ S: mean over positions ──► Linear ─ L2 ─┐
                        ├─ M: maximum ──────────────► Linear ─ L2 ─┼─ concatenated ─ L2
                        └─ G: GeM, p = 3 ───────────► Linear ─ L2 ─┘
    the first descriptor, as it is ──► `AuxiliaryClassifier`, in training only

Source: Jun et al., "Combination of Multiple Global Descriptors for Image Retrieval" (arXiv
1903.10663, sections 3.1 to 3.3, its twelve configurations in `CONFIGURATIONS`). The paper drops
one down-sampling of the backbone so that the last map is 14 × 14 at 224 px. Its wording may mean
layer4; dropping layer3's gives the published FLOPs, hence the default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from microtome.config import check_choice, check_whole
from microtome.errors import SettingError
from microtome.models.backbone import Backbone, TimmNetwork, WeightSource
from microtome.models.card import read_architecture

KIND = "cgd"
CONFIGURATIONS = ("S", "M", "G", "SM", "MS", "SG", "GS", "MG", "GM", "SMG", "MSG", "GSM")
DroppedStride = Literal["layer3", "layer4", "none"]
GEM_P = 3
GEM_FLOOR = 1e-12  # a channel that is 0 everywhere would have an endless slope at the root
LAST_SCALE = (-1,)
DENSE_STRIDE = 16  # input pixels per pixel of the last map once a stride of 32 has lost a factor 2


@dataclass(frozen=True, slots=True)
class CgdConfig:
    """Everything that shapes the module; a card's `architecture` holds exactly these fields.

    Attributes:
        backbone: timm's id.
        pad_type: see `TimmNetwork`.
        descriptors: one of `CONFIGURATIONS`; their order is kept, and the first is classified.
        dim: length of the embedding, shared equally between the descriptors.
        stride: the stage that loses its down-sampling. `layer3` and `layer4` are stages of ResNets
            and their like; for other networks `layer4` means that timm's `output_stride` of 16
            turns the last stride into dilation.
    """

    backbone: str
    pad_type: str = ""
    descriptors: str = "SG"
    dim: int = 1536
    stride: DroppedStride = "layer3"

    def __post_init__(self) -> None:
        if not isinstance(self.backbone, str) or not self.backbone:
            raise SettingError(f"backbone must name a timm network, not {self.backbone!r}")
        TimmNetwork(self.backbone, self.pad_type)
        check_choice("descriptors", self.descriptors, CONFIGURATIONS)
        check_choice("stride", self.stride, get_args(DroppedStride))
        check_whole("dim", self.dim, least=2, most=65536)
        if self.dim % len(self.descriptors):
            raise SettingError(
                f"dim must be a multiple of the {len(self.descriptors)} descriptors "
                f"{self.descriptors}, not {self.dim}"
            )

    def to_architecture(self) -> dict[str, Any]:
        """The `architecture` of a model card."""
        return {"kind": KIND, **asdict(self)}

    @classmethod
    def from_architecture(cls, architecture: Mapping[str, Any]) -> Self:
        """Read a card's `architecture`.

        Raises:
            CheckpointInvalid: another kind, an unknown or missing field, or a wrong value.
        """
        return read_architecture(KIND, architecture, cls)


class CGD(nn.Module):
    """See the module's docstring.

    Args:
        config: the shape.
        weights: of the backbone; the linear maps start untrained.
        frozen: keep the whole backbone as it is.
        fixed_norms: keep the backbone's batch norms in evaluation mode while it trains, as the
            paper's code does; switch it off for a backbone that starts from random weights.

    Attributes:
        channels: of each descriptor.

    Raises:
        SettingError: the network can't lose the stride that the config names.
    """

    def __init__(
        self,
        config: CgdConfig,
        weights: WeightSource,
        *,
        frozen: bool = False,
        fixed_norms: bool = True,
    ) -> None:
        super().__init__()
        self.config = config
        self.backbone = _dense_backbone(config, weights, frozen=frozen, fixed_norms=fixed_norms)
        (self.channels,) = self.backbone.channels
        share = config.dim // len(config.descriptors)
        self.projections = nn.ModuleList(
            nn.Linear(self.channels, share, bias=False) for _ in config.descriptors
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Map (N, 3, H, W) float, normalised, to (N, dim) float32 of unit length."""
        return self.embed_features(self.features(pixels))

    def features(self, pixels: Tensor) -> list[Tensor]:
        """The descriptors, raw, (N, channels) float32 each, in the order of the config.

        A frozen backbone always gives equal ones for equal pixels, so that they may be cached.
        """
        (last,) = self.backbone(pixels)
        return [POOLS[letter](last.float()) for letter in self.config.descriptors]

    def embed_features(self, features: Sequence[Tensor]) -> Tensor:
        """Map `features` to (N, dim) float32 of unit length."""
        parts = [
            F.normalize(project(x).float(), dim=1)
            for project, x in zip(self.projections, features, strict=True)
        ]
        return F.normalize(torch.cat(parts, dim=1), dim=1)

    def embed_and_describe(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The embedding, and the first descriptor (N, channels) for `AuxiliaryClassifier`."""
        features = self.features(pixels)
        return self.embed_features(features), features[0]


class AuxiliaryClassifier(nn.Sequential):
    """Class logits from the first descriptor, in training only.

    Temperature and label smoothing belong to the loss. Maps (N, channels) to (N, classes).
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__(nn.BatchNorm1d(channels), nn.Linear(channels, classes))


def _mean(x: Tensor) -> Tensor:
    return x.mean(dim=(2, 3))


def _maximum(x: Tensor) -> Tensor:
    return x.amax(dim=(2, 3))


def _gem(x: Tensor) -> Tensor:
    """Generalised mean with a signed root, so that x need not be positive."""
    mean = x.pow(GEM_P).mean(dim=(2, 3))
    return mean.sign() * mean.abs().clamp(min=GEM_FLOOR).pow(1 / GEM_P)


POOLS = {"S": _mean, "M": _maximum, "G": _gem}


def _dense_backbone(config: CgdConfig, weights: WeightSource, **options: bool) -> Backbone:
    """The backbone, its last map twice as dense as usual unless the config says `none`."""
    network = TimmNetwork(config.backbone, config.pad_type)
    backbone = Backbone(network, weights, scales=LAST_SCALE, **options)
    if config.stride == "none":
        return backbone
    stage = getattr(backbone.body, config.stride, None)
    if stage is not None:
        _drop_stride(stage)
        return backbone
    if config.stride == "layer3":
        raise SettingError(
            f"{config.backbone} has no stage called layer3 whose stride could be dropped",
            remedy="Take stride layer4 (the last stage, through timm's output_stride) or none.",
        )
    return Backbone(network, weights, scales=LAST_SCALE, output_stride=DENSE_STRIDE, **options)


def _drop_stride(stage: nn.Module) -> None:
    """Let the stage keep its input's size; pools and blurs that only halve become nothing."""
    for parent in list(stage.modules()):
        for name, part in parent.named_children():
            if getattr(part, "stride", 1) not in {2, (2, 2)}:
                continue
            if isinstance(part, nn.Conv2d):
                part.stride = (1, 1)
            elif not list(part.parameters()):
                setattr(parent, name, nn.Identity())
