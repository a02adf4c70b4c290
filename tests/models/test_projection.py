"""A projection: Fisher's discriminant against its definition, and as a checkpoint."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from microtome.errors import CheckpointInvalid, SettingError
from microtome.models.architectures import build_module
from microtome.models.card import ModelCard, Preprocessing
from microtome.models.checkpoint import load_checkpoint, save_checkpoint
from microtome.models.projection import Projection


def clouds(classes: int, each: int, dim: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors that scatter widely along four axes and differ by class along the others."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(classes, dim, generator=generator)
    means[:, :4] = 0
    noise = 0.3 * torch.randn(classes * each, dim, generator=generator)
    noise[:, :4] *= 20
    labels = torch.arange(classes).repeat_interleave(each)
    return F.normalize(means[labels] + noise, dim=1), labels


def fitted(dim: int = 4, shrinkage: float = 0.01, **of: int) -> Projection:
    vectors, labels = clouds(**({"classes": 6, "each": 20, "dim": 8} | of))
    projection = Projection(torch.nn.Identity(), vectors.shape[1], dim)
    projection.fit(vectors, labels, shrinkage)
    return projection


def test_rows_are_the_leading_solutions_of_fishers_problem():
    vectors, labels = clouds(6, 20, 8)
    x, weight = vectors.double().numpy(), fitted().linear.weight.detach().double().numpy()
    within, between = np.zeros((8, 8)), np.zeros((8, 8))
    for row, label in zip(x, labels.tolist(), strict=True):
        away = row - x[labels == label].mean(axis=0)
        within += np.outer(away, away) / len(x)
    for label in range(6):
        away = x[labels == label].mean(axis=0) - x.mean(axis=0)
        between += np.outer(away, away) / 6
    within += 0.01 * np.trace(within) / 8 * np.eye(8)
    ratios = [(row @ between @ row) / (row @ within @ row) for row in weight]
    best = np.sort(np.linalg.eigvals(np.linalg.solve(within, between)).real)[::-1]
    np.testing.assert_allclose(ratios, best[:4], rtol=1e-3)
    np.testing.assert_allclose(weight @ within @ weight.T, np.eye(4), atol=1e-3)


def test_classes_never_seen_are_told_apart_better_than_before():
    vectors, labels = clouds(40, 10, 16)
    seen = labels < 30
    projection = Projection(torch.nn.Identity(), 16, 8)
    projection.fit(vectors[seen], labels[seen], 0.01)

    def recall(x: torch.Tensor) -> float:
        similarity = (x @ x.T).fill_diagonal_(-1)
        return float((labels[~seen][similarity.argmax(dim=1)] == labels[~seen]).float().mean())

    new = vectors[~seen]
    assert recall(projection.project(new)) > recall(new) + 0.1


def test_two_classes_fill_more_dimensions_than_one():
    projection = fitted(dim=5, classes=2)
    vectors, _ = clouds(2, 20, 8)
    assert torch.linalg.matrix_rank(projection.project(vectors)) == 5


def test_fitting_twice_gives_the_same():
    torch.testing.assert_close(fitted().state_dict(), fitted().state_dict(), rtol=0, atol=0)


def test_the_length_of_what_the_encoder_gives_does_not_matter():
    projection, (vectors, _) = fitted(), clouds(6, 20, 8)
    torch.testing.assert_close(projection.project(7 * vectors), projection.project(vectors))


@pytest.mark.parametrize(
    ("vectors", "labels", "shrinkage", "says"),
    [
        (torch.eye(8), torch.zeros(8), 0.1, "two classes"),
        (torch.eye(8), torch.arange(8), 0.1, "all alike"),
        (torch.eye(8), torch.arange(8) % 2, 0.0, "shrinkage"),
    ],
)
def test_what_cannot_be_fitted_is_said(vectors, labels, shrinkage, says):
    with pytest.raises(SettingError, match=says):
        Projection(torch.nn.Identity(), 8, 4).fit(vectors, labels.long(), shrinkage)


def test_dim_is_no_longer_than_the_encoders():
    with pytest.raises(SettingError, match="dim"):
        Projection(torch.nn.Identity(), 8, 9)


ARCHITECTURE = {
    "kind": "projection",
    "of": {"kind": "statistics", "version": 1},
    "in_dim": 268,
    "dim": 6,
}


def test_a_checkpoint_holds_it_whole(tmp_path):
    module = build_module(ARCHITECTURE)
    torch.nn.init.normal_(module.linear.weight)
    save_checkpoint(tmp_path, module, ModelCard("p", ARCHITECTURE, Preprocessing(64), 6, ""))
    pixels = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(load_checkpoint(tmp_path)[1](pixels), module(pixels))


@pytest.mark.parametrize("lacking", ["of", "in_dim", "dim"])
def test_a_card_that_lacks_a_part(lacking):
    with pytest.raises(CheckpointInvalid, match=lacking):
        build_module({key: value for key, value in ARCHITECTURE.items() if key != lacking})
