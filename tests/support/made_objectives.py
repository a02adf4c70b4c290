"""Small objectives of either kind, and a worker process that takes one step of theirs."""

from __future__ import annotations

import os

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from microtome.models.backbone import WeightSource
from microtome.models.cgd import CGD, CgdConfig
from microtome.models.lgffem import LGFFEM, LgffemConfig
from microtome_training.objective import Objective, build_objective
from microtome_training.recipe import ObjectiveRecipe

SEED = WeightSource("random")
ARCFACE = ObjectiveRecipe()
TRIPLETS = ObjectiveRecipe("triplet")


def arcface(recipe: ObjectiveRecipe = ARCFACE, **config: object) -> Objective:
    torch.manual_seed(0)
    shape = LgffemConfig("test_resnet", neck_channels=8, neck_layers=1, dropout=0, **config)
    return build_objective(LGFFEM(shape, SEED), recipe, classes=3)


def triplets() -> Objective:
    torch.manual_seed(0)
    shape = CgdConfig("test_resnet", descriptors="SG", dim=16, stride="none")
    return build_objective(CGD(shape, SEED, frozen=False), TRIPLETS, classes=3)


def batch(count: int = 12) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, 32, 32, generator=random), torch.arange(count) % 3


def gradients_of_halves(rank: int, folder: str) -> None:
    """Be one of two workers: write the gradients of either objective after half of the batch."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # else the host's name decides, wherever it leads
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
    )
    images, labels = batch()
    for make in (arcface, triplets):
        parallel = DistributedDataParallel(make().eval())
        parallel(images[rank::2], labels[rank::2]).backward()
        trained = parallel.module.named_parameters()
        gradients = {name: p.grad for name, p in trained if p.grad is not None}
        torch.save(gradients, f"{folder}/{make.__name__}-{rank}.pt")
    torch.distributed.destroy_process_group()
