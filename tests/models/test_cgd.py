"""CGD: its descriptors, its shape, and the faults it must not have."""

from __future__ import annotations

import json

import pytest
import torch

from microtome.errors import CheckpointInvalid, SettingError
from microtome.models.architectures import build_module
from microtome.models.backbone import WeightSource
from microtome.models.cgd import CGD, CONFIGURATIONS, POOLS, AuxiliaryClassifier, CgdConfig

UNTRAINED = WeightSource("random")
SMALL = CgdConfig("test_resnet", dim=24)


def cgd(**fields) -> CGD:
    return CGD(CgdConfig("test_resnet", **({"dim": 24} | fields)), UNTRAINED).eval()


def test_the_papers_twelve_configurations():
    assert len(set(CONFIGURATIONS)) == 12
    assert {"".join(sorted(c)) for c in CONFIGURATIONS} == {
        *("S", "M", "G"),
        *("MS", "GS", "GM"),
        "GMS",
    }


@pytest.mark.parametrize("descriptors", CONFIGURATIONS)
def test_each_configuration_gives_float32_vectors_of_unit_length(descriptors):
    vectors = cgd(descriptors=descriptors)(torch.randn(2, 3, 64, 64))
    assert vectors.shape == (2, 24)
    assert vectors.dtype == torch.float32
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))


def test_descriptors_have_equal_shares():
    vectors = cgd(descriptors="SMG")(torch.randn(2, 3, 64, 64))
    lengths = vectors.view(2, 3, 8).norm(dim=2)
    torch.testing.assert_close(lengths, torch.full((2, 3), 3**-0.5))


# descriptor, its value for a channel that holds -1, 0, 1, 2
@pytest.mark.parametrize(("letter", "value"), [("S", 0.5), ("M", 2.0), ("G", 2 ** (1 / 3))])
def test_pools(letter, value):
    x = torch.tensor([-1.0, 0.0, 1.0, 2.0]).view(1, 1, 2, 2)
    assert POOLS[letter](x).item() == pytest.approx(value)


def test_gem_keeps_the_sign():
    x = torch.full((1, 1, 2, 2), -3.0)
    assert POOLS["G"](x).item() == pytest.approx(-3.0)


def test_a_channel_of_zeros_has_a_finite_gradient():
    x = torch.zeros(1, 1, 2, 2, requires_grad=True)
    POOLS["G"](x).sum().backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_unit_length_in_half_precision(dtype):
    with torch.autocast("cpu", dtype):
        vectors = cgd()(torch.randn(1, 3, 64, 64))
    assert vectors.norm().item() == pytest.approx(1.0, abs=1e-6)


def test_the_first_descriptor_is_classified():
    pixels = torch.randn(3, 3, 64, 64)
    for descriptors, pool in (("SG", "S"), ("GS", "G")):
        model = cgd(descriptors=descriptors)
        embedding, descriptor = model.embed_and_describe(pixels)
        torch.testing.assert_close(embedding, model(pixels))
        torch.testing.assert_close(descriptor, POOLS[pool](model.backbone(pixels)[0]))
        assert AuxiliaryClassifier(model.channels, 7)(descriptor).shape == (3, 7)


def test_features_may_be_cached():
    model = cgd(descriptors="MSG")
    pixels = torch.randn(2, 3, 64, 64)
    features = [x.clone() for x in model.features(pixels)]
    assert [tuple(x.shape) for x in features] == [(2, model.channels)] * 3
    assert torch.equal(model.embed_features(features), model(pixels))


# network, dropped stride, side of the last map at 224 px
@pytest.mark.parametrize(
    ("backbone", "stride", "side"),
    [
        ("resnet50", "layer3", 14),
        ("resnet50", "layer4", 14),
        ("resnet50", "none", 7),
        ("resnext50_32x4d", "layer3", 14),
        ("resnet26d", "layer3", 14),  # halves its shortcut by a pool
        ("seresnext26d_32x4d", "layer4", 14),
        ("ecaresnetlight", "layer3", 14),
        ("resnetblur50", "layer3", 14),  # blurs before it halves
        ("mobilenetv2_100", "layer4", 14),
        ("mobilenetv2_100", "none", 7),
        ("convnext_atto", "layer4", 14),
        ("regnety_002", "layer4", 14),
        ("densenet121", "none", 7),
    ],
)
def test_a_dropped_stride_doubles_the_last_map(backbone, stride, side):
    with torch.device("meta"):
        model = CGD(CgdConfig(backbone, stride=stride), UNTRAINED).eval()
        (last,) = model.backbone(torch.zeros(1, 3, 224, 224))
    assert last.shape[-2:] == (side, side)


# the stage whose stride goes decides how much is computed at 14 × 14 or at 28 × 28
def test_the_named_stage_loses_its_stride():
    with torch.device("meta"):
        body = CGD(CgdConfig("resnet50", stride="layer3"), UNTRAINED).backbone.body
    strides = {name: part.stride for name, part in body.named_modules() if hasattr(part, "weight")
               and getattr(part, "stride", (1, 1)) != (1, 1)}  # fmt: skip
    assert set(strides) == {
        *("conv1", "layer2.0.conv2", "layer2.0.downsample.0"),
        *("layer4.0.conv2", "layer4.0.downsample.0"),
    }


@pytest.mark.parametrize(
    ("backbone", "stride", "says"),
    [
        ("mobilenetv2_100", "layer3", "mobilenetv2_100 has no stage called layer3"),
        ("densenet121", "layer4", "densenet121 can't give .* at a stride of 16"),
        ("vgg11", "layer4", "vgg11 can't give"),
    ],
)
def test_a_network_that_cannot_lose_a_stride_is_refused(backbone, stride, says):
    with torch.device("meta"), pytest.raises(SettingError, match=says):
        CGD(CgdConfig(backbone, stride=stride), UNTRAINED)


def test_batch_norms_stay_fixed_while_the_rest_trains():
    model = CGD(SMALL, UNTRAINED).train()
    norms = [m for m in model.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    before = [norm.running_mean.clone() for norm in norms]
    model(torch.randn(4, 3, 64, 64)).sum().backward()
    after = [norm.running_mean for norm in norms]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(p.grad is not None for p in model.parameters())


def test_batch_norms_of_a_backbone_from_scratch_may_learn():
    model = CGD(SMALL, UNTRAINED, fixed_norms=False).train()
    assert any(m.training for m in model.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d))


def test_a_frozen_backbone_keeps_no_graph():
    model = CGD(SMALL, UNTRAINED, frozen=True).train()
    features = model.features(torch.randn(2, 3, 64, 64))
    assert not any(x.requires_grad for x in features)
    model.embed_features(features).sum().backward()
    assert {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None} == {
        "projections"
    }


def test_config_round_trips_through_json():
    architecture = json.loads(json.dumps(SMALL.to_architecture()))
    assert CgdConfig.from_architecture(architecture) == SMALL
    assert isinstance(build_module(architecture), CGD)


@pytest.mark.parametrize("change", [{"kind": "lgffem"}, {"colour": 1}, {"dim": "24"}])
def test_an_architecture_that_cannot_be_built_is_refused(change):
    with pytest.raises(CheckpointInvalid):
        CgdConfig.from_architecture(SMALL.to_architecture() | change)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("backbone", ""),
        ("descriptors", "SS"),
        ("descriptors", "GMS"),  # the paper has no such order
        ("dim", 25),
        ("dim", 0),
        ("stride", "layer2"),
        ("pad_type", "x"),
    ],
)
def test_config_names_the_wrong_value(field, value):
    with pytest.raises(SettingError, match=field):
        CgdConfig(**({"backbone": "test_resnet", "dim": 24} | {field: value}))
