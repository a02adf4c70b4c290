"""Backbones from timm: the only file that knows timm.

- `WeightSource`: where a network's weights come from: the hub, a local file, or a seed.
- `create_timm`: any timm network under its licence, with errors a user can act on.
- `Backbone`: one such network cut into its last four scales and, by default, frozen.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from microtome.config import check_whole
from microtome.errors import ModelNotFound, SettingError
from microtome.models.gaps import KeysNoted
from microtome.models.late_compiler import compiler_when_used
from microtome.models.licence import NO_CLAIM, spdx_name
from microtome.models.torchvision_fix import ensure_torchvision_imports

ensure_torchvision_imports()
with compiler_when_used():
    import timm
    from timm.layers import DropPath

__all__ = [
    "Backbone",
    "DropPath",
    "TimmNetwork",
    "WeightSource",
    "create_timm",
    "licence_of",
    "scale_channels",
    "weights_licence",
]

LAST_FOUR_SCALES = (-4, -3, -2, -1)


@dataclass(frozen=True, slots=True)
class WeightSource:
    """Where weights come from.

    Attributes:
        kind: `hub` (downloaded, then cached), `file` (safetensors on disk), or `random`.
        path: the safetensors file, for `file`.
        seed: of torch's generator, for `random`.
    """

    kind: Literal["hub", "file", "random"] = "hub"
    path: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in {"hub", "file", "random"}:
            raise SettingError(f"weights come from hub, file or random, not {self.kind!r}")
        if self.kind == "file" and not self.path.endswith(".safetensors"):
            raise SettingError(
                f"the weights {self.path!r} must be a .safetensors file",
                remedy="Pickled weights can run code when they are opened; convert them first.",
            )
        check_whole("seed", self.seed, least=0)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `hub`, `random:SEED` or `file:PATH`, the part after @ in a model's name."""
        kind, _, value = text.partition(":")
        if kind == "hub" and not value:
            return cls()
        if kind == "random" and (not value or value.isdecimal()):
            return cls("random", seed=int(value or 0))
        if kind == "file" and value:
            return cls("file", path=value)
        raise SettingError(
            f"the weights {text!r} can't be understood",
            remedy="Write @hub, @random:SEED or @file:PATH after the model's name.",
        )


@dataclass(frozen=True, slots=True)
class TimmNetwork:
    """A timm network by name, and what its builder must be told.

    Attributes:
        name: timm's id, e.g. `resnet18.a1_in1k`, or `hf-hub:owner/model`.
        pad_type: `same` for weights that come from TensorFlow, empty for timm's own padding.
    """

    name: str
    pad_type: str = ""

    def __post_init__(self) -> None:
        if self.pad_type not in {"", "same"}:
            raise SettingError(f"pad_type must be 'same' or empty, not {self.pad_type!r}")


class Backbone(nn.Module):
    """Chosen scales of a timm network, by default the last four, finest first.

    Frozen means three things: no gradients, no graph, and evaluation mode whatever the parent's
    `.train()` says, since batch norm would otherwise drift and drop-path switch on.

    Args:
        network: which.
        weights: whence.
        frozen: keep the weights as they are.
        fixed_norms: keep batch norms in evaluation mode while the rest trains.
        scales: which of the network's scales, counted as in a list.
        output_stride: input pixels per pixel of the last scale; strides beyond it become dilation.

    Raises:
        SettingError: the network hasn't these scales, or can't have this stride.

    Attributes:
        channels: of each scale.
        reductions: input pixels per feature pixel of each scale.
    """

    def __init__(
        self,
        network: TimmNetwork,
        weights: WeightSource,
        *,
        frozen: bool = True,
        fixed_norms: bool = False,
        scales: tuple[int, ...] = LAST_FOUR_SCALES,
        output_stride: int | None = None,
    ) -> None:
        super().__init__()
        self.body = _create_scales(network, weights, scales, output_stride)
        info: Any = self.body.feature_info
        self.channels: tuple[int, ...] = tuple(info.channels())
        self.reductions: tuple[int, ...] = tuple(info.reduction())
        self.channels_last = getattr(self.body, "output_fmt", "NCHW") == "NHWC"
        self.frozen = frozen
        self.fixed_norms = fixed_norms
        if frozen:
            self.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; what is frozen or fixed stays in evaluation mode."""
        super().train(mode and not self.frozen)
        if self.fixed_norms:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Map (N, 3, H, W) float, normalised, to maps (N, C_i, ⌈H/r_i⌉, ⌈W/r_i⌉), one a scale."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            maps: list[Tensor] = self.body(pixels)
        if self.channels_last:
            return [x.permute(0, 3, 1, 2) for x in maps]
        return maps


def create_timm(network: TimmNetwork, weights: WeightSource, **options: Any) -> nn.Module:
    """Create a timm network in evaluation mode.

    Args:
        network: which.
        weights: whence; an equal seed gives equal weights on one version of torch and timm.
        options: for `timm.create_model`, e.g. `num_classes=0`.

    Raises:
        ModelNotFound: timm has no such network, or its weights can't be had here.
    """
    if network.pad_type:
        options["pad_type"] = network.pad_type
    if weights.kind == "file":
        if not Path(weights.path).is_file():
            raise ModelNotFound(f"there is no weights file {weights.path}")
        options["pretrained_cfg_overlay"] = {"file": weights.path}
    _check_known(network.name)
    try:
        with torch.random.fork_rng(devices=[]), KeysNoted() as noted:
            torch.manual_seed(weights.seed)
            module: nn.Module = timm.create_model(
                network.name, pretrained=weights.kind != "random", **options
            )
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise _unavailable(network, weights, error) from error
    gaps = noted.gaps_in(module)
    if gaps:
        raise ModelNotFound(
            f"the weights {weights.path or weights.kind} aren't those of {network.name}: they lack "
            f"{', '.join(gaps[:3])}"
        )
    return module.eval()


def scale_channels(network: TimmNetwork, scales: tuple[int, ...]) -> tuple[int, ...]:
    """Channels of these scales; the network is built without weights.

    Raises:
        As `Backbone`.
    """
    with torch.device("meta"):
        return Backbone(network, WeightSource("random"), scales=scales).channels


def _create_scales(
    network: TimmNetwork, weights: WeightSource, scales: tuple[int, ...], output_stride: int | None
) -> nn.Module:
    options = {} if output_stride is None else {"output_stride": output_stride}
    try:
        return create_timm(network, weights, features_only=True, out_indices=scales, **options)
    except (AssertionError, IndexError, NotImplementedError, TypeError) as error:
        wanted = f"the scales {scales}" + (f" at a stride of {output_stride}" if options else "")
        raise SettingError(
            f"timm's {network.name} can't give {wanted}",
            remedy="Take another network, or another stride if one was asked for.",
        ) from error


def licence_of(name: str) -> str:
    """The licence of a network's pretrained weights, an SPDX name; `unknown` if timm names none.

    For `hf-hub:` ids the model's own configuration is read, which may need the network.
    """
    if name.startswith("hf-hub:"):
        try:
            config = timm.models.load_model_config_from_hf(name.removeprefix("hf-hub:"))[0]
        except OSError as error:
            raise _unavailable(TimmNetwork(name), WeightSource(), error) from error
        licence = config.get("license")
    else:
        _check_known(name)
        licence = getattr(timm.get_pretrained_cfg(name), "license", None)
    return spdx_name(licence)


def weights_licence(network: TimmNetwork, weights: WeightSource) -> str:
    """The licence that weights of this network from this source come under, see `licence_of`."""
    return NO_CLAIM if weights.kind == "random" else licence_of(network.name)


def _check_known(name: str) -> None:
    if name.startswith("hf-hub:"):
        return
    if timm.is_model(name):
        architecture, _, tag = name.partition(".")
        tagged = timm.list_pretrained(f"{architecture}.*")
        if tag and name not in tagged:
            raise ModelNotFound(
                f"timm has no weights named {name!r}",
                remedy=f"There are {', '.join(tagged)}." if tagged else "There are none.",
            )
        return
    close = difflib.get_close_matches(name.partition(".")[0], timm.list_models(), n=5)
    remedy = f"Did you mean {', '.join(close)}?" if close else "See timm.list_models()."
    raise ModelNotFound(f"timm has no network named {name!r}", remedy=remedy)


def _unavailable(network: TimmNetwork, weights: WeightSource, error: Exception) -> ModelNotFound:
    if weights.kind == "hub":
        return ModelNotFound(
            f"the weights of {network.name} can't be fetched from the hub here "
            f"({type(error).__name__})",
            remedy="Where the hub can't be reached, bring its cache and set HF_HOME to it, name a "
            "file (timm:NAME@file:PATH.safetensors), or take a model folder. Gated models need "
            "a token, see `hf auth login`.",
        )
    return ModelNotFound(f"the network {network.name} can't be made: {error}")
