"""The loss is the papers' equation, and the same whatever the number of workers."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp

from microtome_training.objective import ArcFace
from microtome_training.recipe import ObjectiveRecipe
from support.made_objectives import arcface, batch, gradients_of_halves, triplets

LIMIT_S = 200


def test_arcface_is_the_equation_with_its_margin_in_degrees() -> None:
    recipe = ObjectiveRecipe("arcface", margin_deg=28.6, scale=10.0, sub_centers=2)
    objective = arcface(recipe)
    assert isinstance(objective, ArcFace)
    images, labels = batch(6)
    objective.eval()
    vectors = objective.embedder(images)
    centres = torch.nn.functional.normalize(objective.losses[0].W, dim=0)
    cosine = (vectors @ centres).view(6, 3, 2).amax(dim=2)
    own = cosine.gather(1, labels[:, None]).acos()
    moved = cosine.scatter(1, labels[:, None], (own + math.radians(28.6)).cos())
    expected = torch.nn.functional.cross_entropy(10.0 * moved, labels)
    assert torch.allclose(objective(images, labels), expected, atol=1e-4)


@pytest.mark.parametrize("make", [arcface, triplets])
def test_everything_that_trains_has_a_gradient(make) -> None:
    objective = make()
    objective(*batch()).backward()
    for name, parameter in objective.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        if parameter.grad is not None:
            assert torch.isfinite(parameter.grad).all(), name


def test_a_frozen_backbone_has_no_gradient_and_stays_in_evaluation_mode() -> None:
    objective = arcface().train()
    assert not any(module.training for module in objective.embedder.backbone.modules())
    assert not any(p.requires_grad for p in objective.embedder.backbone.parameters())


@pytest.mark.parametrize("make", [arcface, triplets])
def test_features_give_the_loss_of_their_pixels(make) -> None:
    objective = make().eval()
    images, labels = batch()
    assert torch.equal(objective(images, labels), objective(objective.features(images), labels))


def test_prefixes_are_trained_to_stand_alone() -> None:
    images, labels = batch()
    objective = arcface(matryoshka_dims=(4, 8))
    assert [loss.W.shape[0] for loss in objective.losses] == [4, 8, 32]
    objective.eval()
    alone = []
    for length, loss in zip((4, 8, 32), objective.losses, strict=True):
        prefix = torch.nn.functional.normalize(objective.embedder(images)[:, :length], dim=1)
        alone.append(loss(prefix, labels))
    assert torch.allclose(objective(images, labels), torch.stack(alone).mean())


def test_equal_images_have_finite_gradients() -> None:
    objective = triplets()
    images, labels = batch()
    objective(images[:1].expand_as(images).contiguous(), labels).backward()
    assert all(torch.isfinite(p.grad).all() for p in objective.parameters() if p.grad is not None)


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two worker processes wrote their gradients, see `gradients_of_halves`."""
    folder = tmp_path_factory.mktemp("halves")
    workers = mp.spawn(gradients_of_halves, (str(folder),), nprocs=2, join=False, daemon=True)
    until_s = time.monotonic() + LIMIT_S
    while not workers.join(timeout=1):
        assert time.monotonic() < until_s, "the workers hang"
    return folder


@pytest.mark.parametrize("make", [arcface, triplets])
def test_two_workers_have_the_gradient_of_one_and_never_diverge(make, halves: Path) -> None:
    # Batch norm sees each worker's half, so the comparison is in evaluation mode.
    objective = make().eval()
    objective(*batch()).backward()
    files = (halves / f"{make.__name__}-{rank}.pt" for rank in (0, 1))
    first, second = (torch.load(file, weights_only=True) for file in files)
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad:
            assert torch.equal(first[name], second[name]), name
            assert torch.allclose(first[name], parameter.grad, atol=1e-5), name
