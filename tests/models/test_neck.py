"""The neck: published size, any map size, and the faults it must not have."""

from __future__ import annotations

import pytest
import torch

from microtome.models.neck import PUBLISHED, Fusion, FusionLayer, Gate, GlobalResponseNorm, Neck


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_has_the_published_number_of_parameters():
    assert parameters(Neck((128, 256, 512, 1024), channels=512, layers=3)) == 12_452_308


@pytest.mark.parametrize(
    "sides",
    [
        (56, 28, 14, 7),  # 224 px
        (63, 32, 16, 8),  # 250 px: nothing doubles to what it halves from
        (75, 38, 19, 10),  # 300 px
        (3, 2, 1, 1),
    ],
)
def test_keeps_the_size_of_every_scale(sides):
    neck = Neck((4, 6, 8, 10), channels=16, layers=2).eval()
    maps = [torch.randn(2, c, side, side) for c, side in zip((4, 6, 8, 10), sides, strict=True)]
    assert [tuple(x.shape) for x in neck(maps)] == [(2, 16, side, side) for side in sides]


def test_every_scale_hears_of_every_other():
    layer = FusionLayer(8).eval()
    maps = [torch.randn(1, 8, side, side, requires_grad=True) for side in (16, 8, 4, 2)]
    for fused in layer(maps):
        gradients = torch.autograd.grad(fused.sum(), maps, retain_graph=True)
        assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_response_is_relative_to_the_other_channels():
    norm = GlobalResponseNorm(2)
    torch.nn.init.ones_(norm.gamma)
    x = torch.stack([torch.full((2, 2), 3.0), torch.full((2, 2), 1.0)])[None]
    # energies 6 and 2, mean 4: x · N + x is 3 · 1.5 + 3 and 1 · 0.5 + 1
    torch.testing.assert_close(norm(x)[0, :, 0, 0], torch.tensor([7.5, 1.5]))


@pytest.mark.parametrize("weights", [(1.0, -1.0, -1e-4), (0.0, 0.0, 0.0), (-5.0, -1.0, -2.0)])
def test_fusion_stays_finite_whatever_its_weights(weights):
    fusion = Fusion(3)
    fusion.weights.data = torch.tensor(weights)
    assert torch.isfinite(fusion(*torch.randn(3, 1, 4, 2, 2))).all()


def test_fusion_is_a_weighted_mean():
    fusion = Fusion(2)
    fusion.weights.data = torch.tensor([3.0, 1.0])
    fused = fusion(torch.full((1, 1, 1, 1), 8.0), torch.zeros(1, 1, 1, 1))
    assert fused.item() == pytest.approx(6.0, rel=1e-3)


@pytest.mark.parametrize("alpha", [-50.0, 0.0, 50.0])
def test_a_gate_never_amplifies(alpha):
    gate = Gate(drop_path=0.0)
    gate.alpha.data.fill_(alpha)
    x = torch.randn(1, 4, 3, 3)
    assert (gate.mix(x, torch.randn(1, 4, 3, 3)).abs() <= x.abs() + 1e-6).all()


def test_drop_path_skips_gates_in_training_only():
    layer = FusionLayer(8, drop_path=0.5)
    maps = [torch.randn(4, 8, side, side) for side in (16, 8, 4, 2)]
    torch.manual_seed(0)
    assert not torch.equal(layer.train()(maps)[0], layer(maps)[0])
    torch.testing.assert_close(layer.eval()(maps)[0], layer(maps)[0])


def test_the_published_response_is_always_one():
    norm = GlobalResponseNorm(2, PUBLISHED)
    torch.nn.init.ones_(norm.gamma)
    x = torch.randn(3, 2, 5, 5)
    torch.testing.assert_close(norm(x), 2 * x)


def test_the_published_fusion_may_divide_by_nothing():
    fusion = Fusion(3, PUBLISHED)
    fusion.weights.data = torch.tensor([1.0, -1.0, -1e-4])
    assert not torch.isfinite(fusion(*torch.randn(3, 1, 4, 2, 2))).all()


def test_a_published_gate_may_amplify():
    gate = Gate(drop_path=0.0, rules=PUBLISHED)
    gate.alpha.data.fill_(3.0)
    assert gate.mix(torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)).item() == pytest.approx(2.0)
