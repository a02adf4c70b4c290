"""What networks cost, by the rule of CGD's published table."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from microtome.errors import ModelNotFound
from microtome.models.profile import cgd_table, cost_of, lgffem_table, profile_model, short

# training classes of CARS, CUB, SOP and In-shop; all cells as published
PUBLISHED = [
    ("resnet50", 98, "26.86M", "10.64G"),
    ("resnet50", 100, "26.86M", "10.64G"),
    ("resnet50", 11318, "49.85M", "10.69G"),
    ("resnet50", 3997, "34.85M", "10.66G"),
    ("resnext50_32x4d", 98, "26.33M", "10.84G"),
    ("resnext50_32x4d", 100, "26.33M", "10.84G"),
    ("resnext50_32x4d", 11318, "49.32M", "10.89G"),
    ("resnext50_32x4d", 3997, "34.32M", "10.86G"),
]


def test_cgds_published_table():
    assert [tuple(row.values()) for row in cgd_table()] == PUBLISHED
    assert list(cgd_table()[0]) == ["backbone", "classes", "params", "flops"]


# module, operations for a (1, 3, 16, 16) input
@pytest.mark.parametrize(
    ("module", "operations"),
    [
        (nn.Conv2d(3, 8, 3, padding=1), 8 * 16 * 16 * 27),  # the bias counts nothing
        (nn.Conv2d(3, 6, 3, groups=3, bias=False), 6 * 14 * 14 * 9),
        (nn.ConvTranspose2d(3, 5, 2, 2), 3 * 16 * 16 * 5 * 4),
        (nn.BatchNorm2d(3), 2 * 3 * 16 * 16),
        (nn.Linear(16, 4), 3 * 16 * 4 * 31),
        (nn.Sequential(nn.Conv2d(3, 1, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)), 16 * 16 * 3),
    ],
)
def test_counting_rule(module, operations):
    assert cost_of(module, input_px=16).flops == operations


def test_frozen_numbers_are_no_trainable_ones():
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1))
    module[0].requires_grad_(False)
    cost = cost_of(module, input_px=16)
    assert (cost.params, cost.trainable) == (16 + 10, 10)


def test_counting_leaves_no_hooks_behind():
    module = nn.Conv2d(3, 4, 1)
    cost_of(module, input_px=16)
    assert not module._forward_hooks


def test_lgffem_on_the_published_backbone(monkeypatch):
    one = {"11_convnextv2": ("convnextv2_base.fcmae", (128, 256, 512, 1024))}
    monkeypatch.setattr("microtome.models.profile.BACKBONES", one)
    (row,) = lgffem_table()
    assert row["backbone"] == "convnextv2_base.fcmae"
    assert row["trainable"] == "14.56M"


@pytest.mark.parametrize(
    ("name", "input_px", "params"),
    [
        ("timm:resnet50", 224, "23.51M"),
        ("timm:mobilenetv2_100@file:absent.safetensors", 224, "2.22M"),  # needs no weights
        ("timm:resnet18@random:0", 224, "11.18M"),
        ("starter", 224, "485.99K"),
    ],
)
def test_any_model_by_name(name, input_px, params):
    row = profile_model(name)
    assert (row["model"], row["input_px"], row["params"]) == (name, input_px, params)


def test_unknown_model():
    with pytest.raises(ModelNotFound, match="'nowhere'"):
        profile_model("nowhere")


@pytest.mark.parametrize(
    ("count", "text"),
    [(999, "999"), (1000, "1.00K"), (26_857_826, "26.86M"), (10_640_000_000, "10.64G")],
)
def test_short(count, text):
    assert short(count) == text


def test_shapes_alone_are_enough():
    with torch.device("meta"):
        assert cost_of(nn.Conv2d(3, 8, 3), input_px=16).flops == 8 * 14 * 14 * 27
