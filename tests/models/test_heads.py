"""GeM pooling and the head over four scales."""

from __future__ import annotations

import pytest
import torch

from microtome.models.heads import GeM, PublishedGeM, PyramidHead


def test_head_has_the_published_number_of_parameters():
    head = PyramidHead(512, [GeM() for _ in range(4)])
    assert sum(parameter.numel() for parameter in head.parameters()) == 2_105_348


def test_embedding_joins_the_scales():
    head = PyramidHead(8, [GeM() for _ in range(4)]).eval()
    assert head([torch.randn(3, 8, side, side) for side in (9, 5, 3, 1)]).shape == (3, 32)


def test_gem_is_the_power_mean():
    gem = GeM(p=3.0)
    x = torch.randn(2, 4, 5, 5)
    positive = torch.nn.functional.softplus(x)
    torch.testing.assert_close(gem(x), positive.pow(3).mean(dim=(2, 3)).pow(1 / 3))


def test_gem_starts_at_its_p_and_never_falls_below_one():
    gem = GeM(p=4.6)
    assert gem.p.item() == pytest.approx(4.6, rel=1e-5)
    gem.excess.data.fill_(-100.0)
    assert gem.p.item() >= 1


def test_gem_gives_negative_positions_a_gradient():
    x = torch.full((1, 1, 2, 2), -3.0, requires_grad=True)
    GeM()(x).sum().backward()
    assert (x.grad > 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gem_neither_vanishes_nor_overflows_in_half_precision(dtype):
    x = torch.tensor([-60.0, 6e4]).to(dtype).view(1, 2, 1, 1).expand(1, 2, 3, 3)
    pooled = GeM(p=4.6)(x)
    assert pooled.dtype == torch.float32
    assert torch.isfinite(pooled).all()
    assert (pooled > 0).all()


def test_the_published_gem_silences_what_is_negative():
    x = torch.tensor([[-3.0, 2.0], [1.0, 0.0]]).view(1, 1, 2, 2).requires_grad_()
    pooled = PublishedGeM(p=2.0)(x)
    assert pooled.item() == pytest.approx((5 / 4) ** 0.5)
    pooled.sum().backward()
    assert x.grad.flatten().tolist()[0] == 0
