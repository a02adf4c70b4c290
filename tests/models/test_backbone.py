"""timm backbones: scales, freezing, where weights come from, and under what licence."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from microtome.errors import ModelNotFound, SettingError
from microtome.models.backbone import (
    Backbone,
    TimmNetwork,
    WeightSource,
    create_timm,
    licence_of,
    scale_channels,
    weights_licence,
)

RANDOM = WeightSource("random")


def test_torchvision_imports_in_a_fresh_process():
    program = "import microtome.models.backbone, torchvision.transforms"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_embedding_waits_for_no_compiler_and_has_it_where_it_is_used():
    program = """if True:
        import sys
        import numpy, torch
        from microtome.models.registry import load_encoder

        load_encoder("starter").encode(numpy.zeros((1, 64, 64, 3), numpy.uint8))
        assert "torch._dynamo" not in sys.modules

        from torchvision.ops.roi_align import is_compile_supported
        assert is_compile_supported("cpu") == torch._dynamo.utils.is_compile_supported("cpu")
        assert torch.compiler.disable(len)([1, 2]) == 2
        assert torch.compile(torch.neg, backend="eager")(torch.ones(1)) == -1
    """
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("name", "reductions"),
    [
        ("test_resnet", (4, 8, 16, 32)),
        ("mobilenetv3_small_050", (4, 8, 16, 32)),
        ("test_convnext", (4, 8, 16, 32)),
    ],
)
def test_gives_the_last_four_scales(name, reductions):
    backbone = Backbone(TimmNetwork(name), RANDOM)
    maps = backbone(torch.zeros(1, 3, 64, 64))
    assert backbone.reductions == reductions
    assert [tuple(x.shape) for x in maps] == [
        (1, channels, 64 // reduction, 64 // reduction)
        for channels, reduction in zip(backbone.channels, reductions, strict=True)
    ]


def test_frozen_stays_in_evaluation_mode_when_its_parent_trains():
    backbone = Backbone(TimmNetwork("test_resnet"), RANDOM)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    torch.nn.Sequential(backbone).train()
    maps = backbone(torch.randn(4, 3, 64, 64))
    assert not any(module.training for module in backbone.modules())
    assert not maps[-1].requires_grad
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_unfrozen_trains():
    backbone = Backbone(TimmNetwork("test_resnet"), RANDOM, frozen=False).train()
    assert backbone.training
    assert backbone(torch.randn(2, 3, 64, 64))[-1].requires_grad


def test_a_seed_decides_the_weights_and_leaves_the_callers_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = (
        next(create_timm(TimmNetwork("test_resnet"), WeightSource("random", seed=s)).parameters())
        for s in (1, 1, 2)
    )
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_real_weights_from_a_file(real_weights):
    file = real_weights / "mobilenetv2_100_imagenet.safetensors"
    network = TimmNetwork("mobilenetv2_100", pad_type="same")
    backbone = Backbone(network, WeightSource("file", str(file)))
    assert backbone.channels == (24, 32, 96, 320)
    untrained = Backbone(network, RANDOM).state_dict()
    changed = [k for k, v in backbone.state_dict().items() if not torch.equal(v, untrained[k])]
    convolutions = [k for k, v in untrained.items() if v.ndim == 4]
    assert set(convolutions) <= set(changed)


def test_unknown_network_suggests_like_names():
    with pytest.raises(ModelNotFound, match=r"'resnet81'.*resnet18"):
        create_timm(TimmNetwork("resnet81"), RANDOM)


def test_unknown_tag_lists_the_known_ones():
    with pytest.raises(ModelNotFound, match=r"'resnet18\.mine'.*resnet18\.tv_in1k"):
        licence_of("resnet18.mine")


def test_missing_weights_file_is_named():
    with pytest.raises(ModelNotFound, match=r"no weights file gone\.safetensors"):
        create_timm(TimmNetwork("test_resnet"), WeightSource("file", "gone.safetensors"))


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("hub", WeightSource("hub")),
        ("random:7", WeightSource("random", seed=7)),
        ("random", WeightSource("random", seed=0)),
        ("file:a/b.safetensors", WeightSource("file", path="a/b.safetensors")),
    ],
)
def test_weight_source_is_read(text, source):
    assert WeightSource.parse(text) == source


@pytest.mark.parametrize("text", ["", "hub:x", "random:-1", "file:", "file:a.pth", "s3://x"])
def test_weight_source_that_cannot_be_is_refused(text):
    with pytest.raises(SettingError):
        WeightSource.parse(text)


@pytest.mark.parametrize(
    ("name", "licence"),
    [
        ("resnet18.tv_in1k", "BSD-3-Clause"),
        ("resnet18", "Apache-2.0"),
        ("convnextv2_base.fcmae", "cc-by-nc-4.0"),
    ],
)
def test_licence_is_timms(name, licence):
    assert licence_of(name) == licence


@pytest.fixture
def weights(tmp_path):
    """All weights of a network in a file, and the tensors."""
    tensors = create_timm(TimmNetwork("test_resnet"), RANDOM).state_dict()
    save_file(tensors, tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors", tensors


def test_surplus_weights_of_the_classifier_are_no_news(weights, caplog):
    Backbone(TimmNetwork("test_resnet"), WeightSource("file", str(weights[0])))
    assert not caplog.records


@pytest.mark.parametrize("lost", ["layer2.0.conv1.weight", "bn1.running_mean"])
def test_weights_that_lack_a_part_are_refused(weights, lost):
    file, tensors = weights
    save_file({name: x for name, x in tensors.items() if name != lost}, file)
    with pytest.raises(ModelNotFound, match=f"weights.safetensors aren't those of .*{lost}"):
        Backbone(TimmNetwork("test_resnet"), WeightSource("file", str(file)))


def test_weights_of_another_network_are_refused(weights):
    with pytest.raises(ModelNotFound):
        Backbone(TimmNetwork("test_convnext"), WeightSource("file", str(weights[0])))


@pytest.mark.parametrize(
    ("name", "options"),
    [("test_vit", {"output_stride": 16}), ("levit_128", {"scales": (0, 1, 2, 7)})],
)
def test_what_a_network_cannot_give_is_said(name, options):
    with pytest.raises(SettingError, match=f"timm's {name} can't give the scales"):
        Backbone(TimmNetwork(name), RANDOM, **options)


def test_fixed_norms_stay_in_evaluation_mode():
    backbone = Backbone(TimmNetwork("test_resnet"), RANDOM, frozen=False, fixed_norms=True).train()
    norms = [m for m in backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training for norm in norms)
    assert backbone.training


def test_channels_are_known_without_weights():
    assert scale_channels(TimmNetwork("convnextv2_base.fcmae"), (0, 1, 2, 3)) == (
        *(128, 256, 512, 1024),
    )


@pytest.mark.parametrize(
    ("name", "source", "licence"),
    [
        ("convnextv2_base.fcmae", WeightSource("file", "a.safetensors"), "cc-by-nc-4.0"),
        ("convnextv2_base.fcmae", RANDOM, "CC0-1.0"),  # nobody trained them
        ("resnet18", WeightSource("hub"), "Apache-2.0"),
    ],
)
def test_licence_of_weights_is_their_sources(name, source, licence):
    assert weights_licence(TimmNetwork(name), source) == licence
