"""What a network costs: parameters, and operations for one image.

The counting rule is the one behind CGD's published table:

- a convolution counts its multiply-accumulates, each as one; its bias counts nothing;
- batch norm counts 2 for each element of its output;
- a linear map counts (2 · in - 1) · out for each vector;
- all else counts 0: activations, pools, means, other norms, attention's own products.

So it compares networks of one family; it is no measure of time. Networks are built on torch's
`meta` device, which computes shapes alone: no weights are drawn or fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from microtome.models.architectures import build_module
from microtome.models.backbone import TimmNetwork, WeightSource, create_timm
from microtome.models.cgd import CGD, AuxiliaryClassifier, CgdConfig
from microtome.models.lgffem import LGFFEM, LgffemConfig
from microtome.models.reference_settings import BACKBONES
from microtome.models.registry import TIMM_PREFIX, folder_card, shipped_cards

CGD_BACKBONES = ("resnet50", "resnext50_32x4d")
CGD_CLASSES = (98, 100, 11318, 3997)  # training classes of CARS, CUB, SOP and In-shop
INPUT_PX = 224
NO_WEIGHTS = WeightSource("random")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one network costs.

    Attributes:
        params: numbers in it, buffers not counted.
        trainable: those that training changes.
        flops: for one image, by the rule above.
    """

    params: int
    trainable: int
    flops: int

    def to_row(self) -> dict[str, str]:
        """As the published table writes it, e.g. `26.86M` and `10.64G`."""
        return {"params": short(self.params), "flops": short(self.flops)}


class CgdInTraining(nn.Module):
    """CGD with its auxiliary classifier: what the published table counts."""

    def __init__(self, backbone: str, classes: int) -> None:
        super().__init__()
        self.cgd = CGD(CgdConfig(backbone), NO_WEIGHTS)
        self.classifier = AuxiliaryClassifier(self.cgd.channels, classes)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The embedding and the class logits."""
        embedding, descriptor = self.cgd.embed_and_describe(pixels)
        return embedding, self.classifier(descriptor)


def cost_of(module: nn.Module, input_px: int = INPUT_PX) -> Cost:
    """Count a module that takes (1, 3, input_px, input_px); it may lie on the `meta` device."""
    parameters = list(module.parameters())
    device = parameters[0].device if parameters else None
    with _counting(module.eval()) as count, torch.no_grad():
        module(torch.zeros(1, 3, input_px, input_px, device=device))
    return Cost(
        params=sum(p.numel() for p in parameters),
        trainable=sum(p.numel() for p in parameters if p.requires_grad),
        flops=sum(count),
    )


def cgd_table() -> list[dict[str, Any]]:
    """The published table's cells, in its order: one row for each backbone and data set."""
    return [
        {"backbone": backbone, "classes": classes}
        | _cost_of_shape(partial(CgdInTraining, backbone, classes)).to_row()
        for backbone in CGD_BACKBONES
        for classes in CGD_CLASSES
    ]


def lgffem_table() -> list[dict[str, Any]]:
    """LGFFEM with neck 512 × 3 on each backbone of the reference, its last four scales."""
    rows = []
    for backbone, _ in BACKBONES.values():
        cost = _cost_of_shape(partial(LGFFEM, LgffemConfig(backbone), NO_WEIGHTS))
        rows.append({"backbone": backbone} | cost.to_row() | {"trainable": short(cost.trainable)})
    return rows


def profile_model(name: str) -> dict[str, Any]:
    """Cost of any model of `registry`, at its own input size; its weights are not looked at.

    Raises:
        ModelNotFound: no such model.
        CheckpointInvalid: the folder's card can't be read or built.
    """
    if card := shipped_cards().get(name):
        input_px = card.preprocessing.input_px
        # Their constants must be real, and they are small.
        cost = cost_of(build_module(card.architecture), input_px)
    elif name.startswith(TIMM_PREFIX):
        network = TimmNetwork(name.removeprefix(TIMM_PREFIX).partition("@")[0])
        with torch.device("meta"):
            module: Any = create_timm(network, NO_WEIGHTS, num_classes=0)
        input_px = module.pretrained_cfg["input_size"][-1]
        cost = cost_of(module, input_px)
    else:
        card = folder_card(name)
        input_px = card.preprocessing.input_px
        cost = _cost_of_shape(partial(build_module, card.architecture), input_px)
    return {"model": name, "input_px": input_px} | cost.to_row()


def short(count: int) -> str:
    """Two decimals and a unit: 26857826 is `26.86M`."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if count >= size:
            return f"{count / size:.2f}{unit}"
    return str(count)


def _cost_of_shape(make: Callable[[], nn.Module], input_px: int = INPUT_PX) -> Cost:
    with torch.device("meta"):
        return cost_of(make(), input_px)


@contextmanager
def _counting(module: nn.Module) -> Iterator[list[int]]:
    """Collect the operations of every part that runs meanwhile."""
    counts: list[int] = []

    def note(part: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        counts.append(_operations(part, inputs[0], output))

    parts = [part for part in module.modules() if isinstance(part, COUNTED)]
    hooks = [part.register_forward_hook(note) for part in parts]
    try:
        yield counts
    finally:
        for hook in hooks:
            hook.remove()


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
COUNTED = (*_CONVOLUTIONS, *_TRANSPOSED, *_BATCH_NORMS, nn.Linear)


def _operations(part: nn.Module, x: Tensor, y: Tensor) -> int:
    if isinstance(part, _CONVOLUTIONS):
        return y.numel() * part.weight[0].numel()
    if isinstance(part, _TRANSPOSED):
        return x.numel() * part.weight[0].numel()
    if isinstance(part, _BATCH_NORMS):
        return 2 * y.numel()
    if isinstance(part, nn.Linear):
        return y.numel() * (2 * part.in_features - 1)
    return 0
