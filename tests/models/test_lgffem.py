"""The whole embedding model."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from microtome.errors import CheckpointInvalid, ModelError, SettingError
from microtome.models.backbone import WeightSource
from microtome.models.lgffem import LGFFEM, LgffemConfig, prefixes

UNTRAINED = WeightSource("random")
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
    [
        {"kind": "cgd"},
        {"colour": 1},
        {"neck_channels": "16"},
        {"neck_layers": 0},
        {"gem_p": 0.5},
        {"matryoshka_dims": 8},
    ],
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
        ("projection_dim", 0),
        ("projection_dim", 2049),  # longer than what the head gives
        ("matryoshka_dims", (2048,)),  # no prefix but the whole
        ("matryoshka_dims", (64, 32)),
        ("matryoshka_dims", (32.0,)),
        ("output_dim", 64),  # nobody trained that prefix
    ],
)
def test_config_names_the_wrong_value(field, value):
    with pytest.raises(SettingError, match=field):
        LgffemConfig(**({"backbone": "test_resnet"} | {field: value}))


def test_an_older_card_without_the_newer_fields_is_read():
    architecture = SMALL.to_architecture()
    for field in ("projection_dim", "matryoshka_dims", "output_dim", "reference"):
        del architecture[field]
    assert LgffemConfig.from_architecture(architecture) == SMALL


def test_a_projection_shortens_the_vectors():
    config = replace(SMALL, projection_dim=12)
    vectors = LGFFEM(config, UNTRAINED).eval()(torch.randn(2, 3, 64, 64))
    assert vectors.shape == (2, config.dim) == (2, 12)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))


def test_prefixes_are_at_unit_length_and_point_where_the_whole_does():
    vectors = torch.tensor([[3.0, 4.0, 12.0]]) / 13
    two, three = prefixes(vectors, (2, 3))
    torch.testing.assert_close(two, torch.tensor([[0.6, 0.8]]))
    torch.testing.assert_close(three, vectors)


def test_every_prefix_learns():
    config = replace(SMALL, projection_dim=12, matryoshka_dims=(4, 8))
    model = LGFFEM(config, UNTRAINED).train()
    short, *_ = prefixes(model(torch.randn(3, 3, 64, 64)), config.matryoshka_dims)
    short[:, 0].sum().backward()
    learnt = model.projection.weight.grad.abs().amax(dim=1)
    assert learnt[:4].min() > 1000 * learnt[4:].max()


def test_features_may_be_cached(model):
    pixels = torch.randn(2, 3, 96, 96)
    cached = [x.clone() for x in model.features(pixels)]
    torch.testing.assert_close(model.embed_features(cached), model(pixels))


def test_a_frozen_backbone_keeps_no_graph_and_an_unfrozen_one_learns():
    pixels = torch.randn(2, 3, 64, 64)
    for frozen in (True, False):
        model = LGFFEM(SMALL, UNTRAINED, frozen=frozen).train()
        features = model.features(pixels)
        assert [x.requires_grad for x in features] == [not frozen] * 4
        assert model.backbone.training is not frozen


# network, channels of its last four scales; RegNetY has five, a Swin gives channels last
@pytest.mark.parametrize(
    ("backbone", "channels"),
    [
        ("convnext_atto", (40, 80, 160, 320)),
        ("regnety_002", (24, 56, 152, 368)),
        ("mobilenetv2_100", (24, 32, 96, 320)),
        ("swin_tiny_patch4_window7_224", (96, 192, 384, 768)),
        ("caformer_s18", (64, 128, 320, 512)),
    ],
)
def test_takes_any_hierarchical_network(backbone, channels):
    config = LgffemConfig(backbone, neck_channels=16, neck_layers=1)
    with torch.device("meta"):
        model = LGFFEM(config, UNTRAINED).eval()
        assert model(torch.zeros(2, 3, 224, 224)).shape == (2, 64)
    assert model.backbone.channels == channels


@pytest.mark.parametrize(("backbone", "says"), [("test_vit", "no four scales"), ("levit_128", "")])
def test_a_network_without_four_scales_is_refused(backbone, says):
    with torch.device("meta"), pytest.raises(SettingError, match=f"{backbone}.*{says}"):
        LGFFEM(LgffemConfig(backbone), UNTRAINED)


def reference(backbone: str, **fields) -> LGFFEM:
    with torch.device("meta"):
        return LGFFEM(LgffemConfig(backbone, reference=True, **fields), UNTRAINED)


def test_the_reference_has_the_published_number_of_parameters():
    model = reference("convnextv2_base", neck_channels=512, neck_layers=3)
    counts = [sum(p.numel() for p in part.parameters()) for part in (model.neck, model.head)]
    assert counts == [12_452_308, 2_105_348]
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 14_557_656


# network of five scales; what the reference takes, what ours takes
@pytest.mark.parametrize(
    ("backbone", "first", "last"),
    [
        ("regnety_080_tv", (32, 224, 448, 896), (224, 448, 896, 2016)),
        ("coatnet_1_rw_224", (64, 96, 192, 384), (96, 192, 384, 768)),
    ],
)
def test_the_reference_never_sees_the_last_of_five_scales(backbone, first, last):
    assert reference(backbone).backbone.channels == first
    with torch.device("meta"):
        assert LGFFEM(LgffemConfig(backbone), UNTRAINED).backbone.channels == last


@pytest.mark.parametrize("side_px", [250, 300])
def test_the_reference_says_which_sides_it_takes(side_px):
    model = reference("convnext_atto", neck_channels=16, neck_layers=1)
    with pytest.raises(ModelError, match=f"multiples of 32 px, not {side_px}"):
        model(torch.zeros(1, 3, side_px, side_px, device="meta"))


def test_the_reference_has_no_newer_parts():
    with pytest.raises(SettingError, match="the reference has neither"):
        LgffemConfig("test_resnet", reference=True, projection_dim=8)
