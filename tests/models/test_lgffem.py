"""The whole embedding model."""

from __future__ import annotations

import json

import pytest
import torch

from microtome.errors import CheckpointInvalid, SettingError
from microtome.models.backbone import WeightSource
from microtome.models.lgffem import LGFFEM, LgffemConfig

SMALL = LgffemConfig("test_resnet", neck_channels=16, neck_layers=2)


@pytest.fixture(scope="module")
def model() -> LGFFEM:
    return LGFFEM(SMALL, WeightSource("random")).eval()


@pytest.mark.parametrize("side_px", [96, 250, 300])
def test_embeds_any_size_at_unit_length(model, side_px):
    vectors = model(torch.randn(2, 3, side_px, side_px))
    assert vectors.shape == (2, SMALL.dim)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))


def test_only_neck_and_head_learn():
    model = LGFFEM(SMALL, WeightSource("random")).train()
    model(torch.randn(2, 3, 64, 64)).sum().backward()
    learning = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert learning == {"neck", "head"}
    assert not model.backbone.training


def test_unit_length_in_half_precision(model):
    with torch.autocast("cpu", torch.bfloat16):
        vectors = model(torch.randn(1, 3, 64, 64))
    assert vectors.dtype == torch.float32
    assert vectors.norm().item() == pytest.approx(1.0, abs=1e-6)


def test_real_backbone(real_weights):
    file = real_weights / "mobilenetv2_100_imagenet.safetensors"
    config = LgffemConfig("mobilenetv2_100", pad_type="same", neck_channels=32, neck_layers=1)
    model = LGFFEM(config, WeightSource("file", str(file))).eval()
    dark, light = model(torch.stack([torch.full((3, 96, 96), v) for v in (-1.0, 1.0)]))
    assert torch.dot(dark, light) < 0.9999


def test_config_round_trips_through_json():
    architecture = json.loads(json.dumps(SMALL.to_architecture()))
    assert LgffemConfig.from_architecture(architecture) == SMALL


@pytest.mark.parametrize(
    "change",
    [{"kind": "cgd"}, {"colour": 1}, {"neck_channels": "16"}, {"neck_layers": 0}, {"gem_p": 0.5}],
)
def test_an_architecture_that_cannot_be_built_is_refused(change):
    with pytest.raises(CheckpointInvalid):
        LgffemConfig.from_architecture(SMALL.to_architecture() | change)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("neck_channels", 12),
        ("dropout", 1.5),
        ("gem_eps", 0.0),
        ("backbone", ""),
        ("pad_type", "x"),
    ],
)
def test_config_names_the_wrong_value(field, value):
    with pytest.raises(SettingError, match=field):
        LgffemConfig(**({"backbone": "test_resnet"} | {field: value}))
